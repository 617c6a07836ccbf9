// Reads Mermaid texts as a JSON array of strings and prints, for each, "ok" or
// what Mermaid's own parser says, and the node labels that it understood.
import { JSDOM } from "jsdom";
const dom = new JSDOM("<!doctype html><body></body>");
globalThis.window = dom.window;
globalThis.document = dom.window.document;
const { default: mermaid } = await import("mermaid");
let input = "";
for await (const chunk of process.stdin) input += chunk;
const results = [];
for (const text of JSON.parse(input)) {
  try {
    await mermaid.parse(text);
    const diagram = await mermaid.mermaidAPI.getDiagramFromText(text);
    const vertices = [...diagram.db.getVertices().values()];
    results.push({ error: "", kind: diagram.type, nodes: vertices.length, edges: diagram.db.getEdges().length });
  } catch (e) {
    results.push({ error: String(e.message || e), kind: "", nodes: 0, edges: 0 });
  }
}
process.stdout.write(JSON.stringify(results) + "\n", () => process.exit(0));
