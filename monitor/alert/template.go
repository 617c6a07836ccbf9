package alert

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// The templates of summaries and descriptions are the part of Prometheus' that
// is needed, so that both evaluators write the same text.

var placeholder = regexp.MustCompile(`\{\{\s*(?:\$labels\.([a-z_][a-z0-9_]*)` +
	`|\$value(?:\s*\|\s*(humanize|humanizePercentage|humanizeDuration))?)\s*\}\}`)

func checkTemplate(text string) error {
	if rest := placeholder.ReplaceAllString(text, ""); strings.Contains(rest, "{{") || strings.Contains(rest, "}}") {
		return errors.New("{{ $labels.name }}, {{ $value }} and its humanize forms only")
	}
	return nil
}

func expand(text string, labels Labels, value float64) string {
	return placeholder.ReplaceAllStringFunc(text, func(part string) string {
		found := placeholder.FindStringSubmatch(part)
		switch {
		case found[1] != "":
			return labels[found[1]]
		case found[2] == "humanizePercentage":
			return fmt.Sprintf("%.4g%%", value*100)
		case found[2] == "humanizeDuration":
			return humanDuration(value)
		case found[2] == "humanize":
			return humanize(value)
		default:
			return strconv.FormatFloat(value, 'g', -1, 64)
		}
	})
}

func humanize(v float64) string {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Sprintf("%.4g", v)
	}
	prefix := ""
	if math.Abs(v) >= 1 {
		for _, p := range []string{"k", "M", "G", "T", "P", "E", "Z", "Y"} {
			if math.Abs(v) < 1000 {
				break
			}
			prefix, v = p, v/1000
		}
	} else {
		for _, p := range []string{"m", "u", "n", "p", "f", "a", "z", "y"} {
			if math.Abs(v) >= 1 {
				break
			}
			prefix, v = p, v*1000
		}
	}
	return fmt.Sprintf("%.4g%s", v, prefix)
}

func humanDuration(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return fmt.Sprintf("%.4g", v)
	}
	if v == 0 {
		return "0s"
	}
	if math.Abs(v) < 1 {
		prefix := ""
		for _, p := range []string{"m", "u", "n", "p", "f", "a", "z", "y"} {
			if math.Abs(v) >= 1 {
				break
			}
			prefix, v = p, v*1000
		}
		return fmt.Sprintf("%.4g%ss", v, prefix)
	}
	sign := ""
	if v < 0 {
		sign, v = "-", -v
	}
	whole := int64(v)
	seconds, minutes, hours, days := whole%60, whole/60%60, whole/3600%24, whole/86400
	switch {
	case days != 0:
		return fmt.Sprintf("%s%dd %dh %dm %ds", sign, days, hours, minutes, seconds)
	case hours != 0:
		return fmt.Sprintf("%s%dh %dm %ds", sign, hours, minutes, seconds)
	case minutes != 0:
		return fmt.Sprintf("%s%dm %ds", sign, minutes, seconds)
	default:
		return fmt.Sprintf("%s%.4gs", sign, v)
	}
}
