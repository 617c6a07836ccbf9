package component

import (
	"fmt"
	"slices"
	"strings"
)

// ours begin variables that nobody else has a reason to set. FLOWCTL_ is not
// among them: a flowctl that starts a component sets several that only others
// read.
var ours = []string{"CONNECTION_POOL_", "FLOW_CONTROL_"}

// Misspelled returns a sentence for each variable of environ, NAME=VALUE pairs,
// that no program reads though it looks as if one should: it is a letter or two
// away from one that is read and not set, or it has a prefix of ours. It is for a
// warning only, because the environment belongs to others, too.
func Misspelled(environ, read []string) (sentences []string) {
	set := map[string]bool{}
	for _, pair := range environ {
		if name, value, _ := strings.Cut(pair, "="); strings.TrimSpace(value) != "" {
			set[name] = true
		}
	}
	for name := range set {
		if slices.Contains(read, name) {
			continue
		}
		best, least := "", 3
		for _, candidate := range read {
			allowed := 1
			if len(candidate) >= 12 {
				allowed = 2
			}
			if d := distance(strings.ToUpper(name), candidate); d <= allowed && d < least && !set[candidate] {
				best, least = candidate, d
			}
		}
		switch {
		case best != "":
			sentences = append(sentences, fmt.Sprintf("%s is set, and nothing reads it: did you mean %s?", name, best))
		case slices.ContainsFunc(ours, func(prefix string) bool { return strings.HasPrefix(name, prefix) }):
			sentences = append(sentences, fmt.Sprintf("%s is set, and nothing reads it; -h lists what is read", name))
		}
	}
	slices.Sort(sentences)
	return sentences
}

// distance counts the letters that are wrong, missing, too many, or swapped with
// the one beside them (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, last, row = last, row, before
		row[0] = i
		for j := 1; j <= len(b); j++ {
			wrong := 0
			if a[i-1] != b[j-1] {
				wrong = 1
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+wrong)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
