package mixin

// The parts of Grafana's dashboard model that are used, as they stand in JSON, in
// the order of Grafana's own exports: a dashboard that was imported, saved and
// exported again shows few differences. Newer versions of Grafana migrate the
// schema when they load it.

type dashboard struct {
	UID           string     `json:"uid"`
	Title         string     `json:"title"`
	Description   string     `json:"description"`
	Tags          []string   `json:"tags"`
	SchemaVersion int        `json:"schemaVersion"`
	Version       int        `json:"version"`
	Editable      bool       `json:"editable"`
	GraphTooltip  int        `json:"graphTooltip"`
	Refresh       string     `json:"refresh"`
	Timezone      string     `json:"timezone"`
	Time          timeRange  `json:"time"`
	Templating    templating `json:"templating"`
	Links         []link     `json:"links"`
	Panels        []panel    `json:"panels"`
}

type timeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

type templating struct {
	List []variable `json:"list"`
}

type variable struct {
	Name       string      `json:"name"`
	Label      string      `json:"label"`
	Type       string      `json:"type"`
	Query      any         `json:"query"`
	Datasource *datasource `json:"datasource,omitempty"`
	Definition string      `json:"definition,omitempty"`
	Refresh    int         `json:"refresh,omitempty"`
	Multi      bool        `json:"multi,omitempty"`
	IncludeAll bool        `json:"includeAll,omitempty"`
	AllValue   string      `json:"allValue,omitempty"`
	Sort       int         `json:"sort,omitempty"`
	Current    any         `json:"current"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type link struct {
	Title       string   `json:"title"`
	Type        string   `json:"type"`
	Tags        []string `json:"tags"`
	AsDropdown  bool     `json:"asDropdown"`
	IncludeVars bool     `json:"includeVars"`
	KeepTime    bool     `json:"keepTime"`
}

type panel struct {
	ID          int         `json:"id"`
	Type        string      `json:"type"`
	Title       string      `json:"title"`
	Description string      `json:"description"`
	Datasource  datasource  `json:"datasource"`
	GridPos     gridPos     `json:"gridPos"`
	Targets     []target    `json:"targets"`
	FieldConfig fieldConfig `json:"fieldConfig"`
	Options     any         `json:"options"`
}

type gridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type target struct {
	RefID        string     `json:"refId"`
	Datasource   datasource `json:"datasource"`
	Expr         string     `json:"expr"`
	LegendFormat string     `json:"legendFormat"`
	Format       string     `json:"format,omitempty"`
	Instant      bool       `json:"instant,omitempty"`
}

type fieldConfig struct {
	Defaults  fieldDefaults `json:"defaults"`
	Overrides []any         `json:"overrides"`
}

type fieldDefaults struct {
	Unit       string         `json:"unit"`
	Min        *float64       `json:"min,omitempty"`
	Max        *float64       `json:"max,omitempty"`
	Custom     map[string]any `json:"custom,omitempty"`
	Mappings   []any          `json:"mappings,omitempty"`
	Thresholds *thresholds    `json:"thresholds,omitempty"`
}

type thresholds struct {
	Mode  string `json:"mode"`
	Steps []step `json:"steps"`
}

type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

var source = datasource{Type: "prometheus", UID: "${datasource}"}

// Kinds of panels.
const (
	series   = "timeseries"
	number   = "stat"
	timeline = "state-timeline"
	table    = "table"
)

// view is what a panel is made of.
type view struct {
	kind, title, description, unit string
	max                            float64 // 0: open
	width                          int     // of 24; 0: 12
	queries                        []query
	mappings                       []any
	steps                          []step
}

// A query is PromQL and the name of its lines, with {{label}} for a label's value.
type query struct{ expr, legend string }

// newDashboard lays the panels out from left to right, in rows of 24 columns. Panels
// are numbered in their order and have no ids of their own, so that the same tables
// give the same file.
func newDashboard(uid, title, description string, variables []variable, views []view) dashboard {
	d := dashboard{
		UID: uid, Title: title, Description: description, Tags: []string{"flowctl", "sluice"},
		SchemaVersion: 39, Version: 1, Editable: true, GraphTooltip: 1, Refresh: "10s", Timezone: "browser",
		Time: timeRange{From: "now-30m", To: "now"},
		Links: []link{{
			Title: "Flow control", Type: "dashboards", Tags: []string{"flowctl"}, AsDropdown: true, IncludeVars: true,
			KeepTime: true,
		}},
	}
	d.Templating.List = append([]variable{{
		Name: "datasource", Label: "Data source", Type: "datasource", Query: "prometheus", Current: map[string]any{},
	}}, variables...)
	x, y, height := 0, 0, 0
	for i, v := range views {
		width := v.width
		if width == 0 {
			width = 12
		}
		h := 8
		if v.kind == number {
			h = 4
		}
		if x+width > 24 {
			x, y, height = 0, y+height, 0
		}
		d.Panels = append(d.Panels, v.panel(i+1, gridPos{H: h, W: width, X: x, Y: y}))
		x, height = x+width, max(height, h)
	}
	return d
}

// panel is the view as Grafana has it. The axis starts at 0: a gauge that moves
// between 0.79 and 0.81 would otherwise look like an alarm.
func (v view) panel(id int, pos gridPos) panel {
	p := panel{ID: id, Type: v.kind, Title: v.title, Description: v.description, Datasource: source, GridPos: pos}
	for i, q := range v.queries {
		t := target{RefID: string(rune('A' + i)), Datasource: source, Expr: q.expr, LegendFormat: q.legend}
		if v.kind == table {
			t.Format, t.Instant = "table", true
		}
		p.Targets = append(p.Targets, t)
	}
	p.FieldConfig = fieldConfig{
		Defaults:  fieldDefaults{Unit: v.unit, Min: new(0.0), Mappings: v.mappings},
		Overrides: []any{},
	}
	if v.max > 0 {
		p.FieldConfig.Defaults.Max = new(v.max)
	}
	if v.steps != nil {
		p.FieldConfig.Defaults.Thresholds = &thresholds{Mode: "absolute", Steps: v.steps}
	}
	switch v.kind {
	case series:
		p.FieldConfig.Defaults.Custom = map[string]any{
			"drawStyle": "line", "lineWidth": 1, "fillOpacity": 8,
			"showPoints": "never",
		}
		p.Options = map[string]any{
			"legend":  map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true},
			"tooltip": map[string]any{"mode": "multi", "sort": "desc"},
		}
	case number:
		p.Options = map[string]any{
			"colorMode": "value", "graphMode": "area",
			"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false},
		}
	case timeline:
		p.Options = map[string]any{"mergeValues": true, "showValue": "auto", "rowHeight": 0.9}
	default:
		p.Options = map[string]any{"showHeader": true}
	}
	return p
}

// choice is a variable with the values of a label. It allows several values, and
// all of them are ".*", not a list: with a thousand services each query would hold
// a thousand names.
func choice(name, label, metric string) variable {
	q := "label_values(" + metric + ", " + name + ")"
	return variable{
		Name: name, Label: label, Type: "query", Query: map[string]any{"query": q, "refId": "variable"}, Definition: q,
		Datasource: &source, Refresh: 2, Multi: true, IncludeAll: true, AllValue: ".*", Sort: 1,
		Current: map[string]any{"text": "All", "value": "$__all"},
	}
}

// colours makes steps out of pairs of a colour and the value from which it holds;
// nil is the first step, which has no value.
func colours(pairs ...any) []step {
	var steps []step
	for i := 0; i < len(pairs); i += 2 {
		s := step{Color: pairs[i].(string)}
		if v, ok := pairs[i+1].(float64); ok {
			s.Value = new(v)
		}
		steps = append(steps, s)
	}
	return steps
}

// words names the two values of a state, the second one in red.
func words(zero, one string) []any {
	return []any{map[string]any{"type": "value", "options": map[string]any{
		"0": map[string]any{"text": zero, "color": "green", "index": 0},
		"1": map[string]any{"text": one, "color": "red", "index": 1},
	}}}
}
