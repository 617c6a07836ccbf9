// Package text writes words and figures for people: in one line, without what
// turns its direction, and no wider than its room.
package text

import (
	"fmt"
	"math"
	"strings"
	"unicode"
)

// Valid returns s as valid UTF-8.
func Valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// Percent writes a share as "61 %", with a space that does not break.
func Percent(share float64) string {
	return fmt.Sprintf("%d\u00a0%%", int64(math.Round(min(share, 1e6)*100)))
}

// Fit cuts a text to a width in ems, with an ellipsis, and makes it one line
// that shows no control and no direction mark.
func Fit(s string, most float64) string {
	s = Line(s)
	if Ems(s) <= most {
		return s
	}
	width := Ems("…")
	for i, r := range s {
		if width += em(r); width > most {
			return strings.TrimSpace(s[:i]) + "…"
		}
	}
	return s
}

// Brief cuts a name for a sentence.
func Brief(name string) string { return Fit(name, 40) }

// Line replaces what would break a line, or turn its direction, by a space.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, s)
}

// Ems estimates the width of a text, generously enough for any usual font.
func Ems(s string) float64 {
	w := 0.0
	for _, r := range s {
		w += em(r)
	}
	return w
}

func em(r rune) float64 {
	switch {
	case r >= 0x1100:
		return 1.05
	case strings.ContainsRune("MW@", r):
		return 1.15
	case strings.ContainsRune("mw%—…", r):
		return 0.98
	case unicode.IsUpper(r):
		return 0.72
	case strings.ContainsRune("iljtf.,:;|!'()[] -", r):
		return 0.38
	default:
		return 0.60
	}
}

// Join writes "a", "a and b", "a, b and c".
func Join(names []string) string {
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
