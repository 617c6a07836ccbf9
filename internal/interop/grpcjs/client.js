// Reads the rows of a query, and prints what it saw as JSON:
//   node client.js HOST PORT QUERY COLUMN
const { FlightSQLClient } = require("@gizmodata/gizmosql-client");

async function main() {
  const [host, port, query, column] = process.argv.slice(2);
  const client = new FlightSQLClient({ host, port: Number(port), plaintext: true });
  const table = await client.execute(query);
  let sum = 0n;
  for (const value of table.getChild(column)) {
    sum += BigInt(value);
  }
  const schema = table.schema.fields.map((field) => field.name);
  await client.close();
  console.log(JSON.stringify({ rows: table.numRows, sum: sum.toString(), schema }));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
