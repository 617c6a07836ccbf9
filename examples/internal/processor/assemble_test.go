package processor

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/stretchr/testify/require"

	"github.com/withobsrvr/sluice/examples/internal/ledgers"
	"github.com/withobsrvr/sluice/examples/internal/source"
	"github.com/withobsrvr/sluice/flowcontrol"
)

// rowsOf builds a batch of the source from rows.
func rowsOf(mem memory.Allocator, rows []source.Row) arrow.RecordBatch {
	b := array.NewRecordBuilder(mem, source.Schema("x"))
	defer b.Release()
	for _, r := range rows {
		for i := range b.Fields() {
			switch f := b.Field(i).(type) {
			case *array.Uint32Builder:
				f.Append(map[int]uint32{0: r.Sequence, 9: r.Part, 10: r.Parts}[i])
			case *array.Int64Builder:
				f.Append(r.Total)
			case *array.BinaryBuilder:
				f.Append(r.XDR)
			default:
				f.AppendEmptyValue()
			}
		}
	}
	return b.NewRecordBatch()
}

// feed runs batches, separated by |, through an assembler that wants ledgers 7
// to 9, and returns the ledgers of the jobs. Each word is a row: a ledger's
// number and, after a slash, its part and parts.
func feed(t *testing.T, text string, limit flowcontrol.Cost) (out []string, err error) {
	t.Helper()
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	stage, err := flowcontrol.New(flowcontrol.Config{Name: "test", Limit: limit})
	require.NoError(t, err)
	p := &pipe{
		Server:  &Server{cfg: Config{Allocator: mem, MaxLedgerBytes: 100}.withDefaults(), stage: stage},
		r:       ledgers.Range{First: 7, Last: 9},
		ordered: make(chan *job, 64),
		work:    make(chan *job, 64),
	}
	a := assembler{pipe: p, next: 7}
	rows := map[string]source.Row{
		"6":     {Sequence: 6, Parts: 1, Total: 2, XDR: []byte("66")},
		"7":     {Sequence: 7, Parts: 1, Total: 2, XDR: []byte("77")},
		"8":     {Sequence: 8, Parts: 1, Total: 2, XDR: []byte("88")},
		"9":     {Sequence: 9, Parts: 1, Total: 2, XDR: []byte("99")},
		"10":    {Sequence: 10, Parts: 1, Total: 2, XDR: []byte("10")},
		"8a":    {Sequence: 8, Part: 0, Parts: 3, Total: 5, XDR: []byte("ab")},
		"8b":    {Sequence: 8, Part: 1, Parts: 3, Total: 5, XDR: []byte("cd")},
		"8c":    {Sequence: 8, Part: 2, Parts: 3, Total: 5, XDR: []byte("e")},
		"8long": {Sequence: 8, Part: 1, Parts: 3, Total: 5, XDR: []byte("defgh")},
		"8none": {Sequence: 8, Parts: 0, Total: 2, XDR: []byte("88")},
		"8lie":  {Sequence: 8, Parts: 1, Total: 3, XDR: []byte("88")},
		"8huge": {Sequence: 8, Part: 0, Parts: 2, Total: 101, XDR: []byte("ab")},
		"8neg":  {Sequence: 8, Part: 0, Parts: 2, Total: -1, XDR: []byte("ab")},
	}
	for group := range strings.SplitSeq(text, "|") {
		var list []source.Row
		for word := range strings.FieldsSeq(group) {
			row, ok := rows[word]
			require.True(t, ok, word)
			list = append(list, row)
		}
		batch := rowsOf(mem, list)
		err = a.add(t.Context(), batch, time.Time{})
		batch.Release()
		if err != nil {
			a.drop()
			break
		}
	}
	if err == nil {
		err = a.end()
	}
	close(p.ordered)
	close(p.work)
	for j := range p.work {
		for _, l := range j.ledgers {
			out = append(out, string(l.Raw))
		}
		j.finish()
	}
	for j := range p.ordered {
		p.drop(j)
	}
	require.Zero(t, stage.InFlight())
	require.Zero(t, p.count.queued.Load())
	return out, err
}

func TestAssemble(t *testing.T) {
	for text, want := range map[string][]string{
		"7 8 9":             {"77", "88", "99"},
		"7|8|9":             {"77", "88", "99"},
		"7 8||9":            {"77", "88", "99"},
		"7 | 8a|8b|8c | 9":  {"77", "abcde", "99"},
		"7 | 8a||8b|8c | 9": {"77", "abcde", "99"},
	} {
		got, err := feed(t, text, flowcontrol.Cost{Messages: 64, Bytes: 1 << 20})
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
}

// The source is another program: what it sends is checked, never trusted.
func TestAssembleRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                "ended before ledger 7",
		"7 8":             "ended before ledger 9",
		"7 9":             "sent ledger 9 where ledger 8",
		"7|9":             "sent ledger 9 where ledger 8",
		"7 7":             "sent ledger 7 where ledger 8",
		"6":               "sent ledger 6 where ledger 7",
		"7 8 9|10":        "sent ledger 10 where ledger 10 of 7-9",
		"7|8a":            "ended before ledger 8",
		"7|8a|9":          "sent ledger 9 before part 1 of ledger 8",
		"7|8a|8":          "sent ledger 8 before part 1 of ledger 8",
		"7|8a|8c":         "part 2 of 3, 3 of 5 bytes, where part 1",
		"7|8b":            "part 1 of 3, 2 of 5 bytes, where part 0",
		"7|8a|8a":         "part 0 of 3, 4 of 5 bytes, where part 1",
		"7|8a|8long":      "7 of 5 bytes",
		"7|8a|8b|8b":      "part 1 of 3",
		"7 8a":            "in a batch of 2 rows",
		"7|8none":         "part 0 of 0",
		"7|8lie":          "2 of 3 bytes",
		"7|8huge":         "ledger 8: 101 bytes of XDR, want at most 100",
		"7|8neg":          "ledger 8: -1 bytes of XDR",
		"7 | 8a|8b|8c|8c": "sent ledger 8 where ledger 9",
	} {
		_, err := feed(t, text, flowcontrol.Cost{Messages: 64, Bytes: 1 << 20})
		require.ErrorContains(t, err, want, text)
	}
}

// A stage that is full holds the reader; its permit is gone when it gives up.
func TestAssembleWaitsForTheStage(t *testing.T) {
	stage, err := flowcontrol.New(flowcontrol.Config{Name: "test", Limit: flowcontrol.Cost{Messages: 1}})
	require.NoError(t, err)
	permit, err := stage.Acquire(t.Context(), flowcontrol.Cost{Messages: 1})
	require.NoError(t, err)
	mem := memory.NewCheckedAllocator(memory.DefaultAllocator)
	defer mem.AssertSize(t, 0)
	for _, row := range []source.Row{
		{Sequence: 7, Parts: 1, Total: 2, XDR: []byte("77")},
		{Sequence: 7, Parts: 2, Total: 3, XDR: []byte("77")},
	} {
		p := &pipe{
			Server: &Server{cfg: Config{Allocator: mem}.withDefaults(), stage: stage},
			r:      ledgers.Range{First: 7, Last: 9}, ordered: make(chan *job, 1), work: make(chan *job, 1),
		}
		a := assembler{pipe: p, next: 7}
		batch := rowsOf(mem, []source.Row{row})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.add(ctx, batch, time.Time{}) }()
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)
		a.drop()
		batch.Release()
	}
	permit.Release(flowcontrol.Success)
	require.Zero(t, stage.InFlight())
}
