package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-analyze/charts"
)

// plot draws each measure: the medians of its ways as multiples of the first's.
func (s *set) plot(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, m := range measures {
		if m.tight != nil || len(s.conns(m.name)) == 0 {
			continue
		}
		svg, err := s.draw(m)
		if err != nil {
			return fmt.Errorf("draw %s: %w", m.name, err)
		}
		if err := os.WriteFile(filepath.Join(folder, m.file()+".svg"), svg, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// coloured are the ways in the order of the theme's colours: a way has the same one in all plots.
var coloured = []string{wayPgx, wayDual, wayBest, wayStrict, wayAsync, wayEventual, wayLoose, wayTwoTrips}

func (s *set) draw(m *measure) ([]byte, error) {
	conns := s.conns(m.name)
	var names, labels []string
	for _, n := range conns {
		labels = append(labels, fmt.Sprintf("%d at a time", n))
	}
	var values [][]float64
	var colours []charts.Color
	theme := charts.GetTheme(charts.ThemeLight)
	for _, way := range m.ways {
		var line []float64
		for _, n := range conns {
			if e, ok := s.ratio(place{m.name, way, n}, m.ways[0], unitP50); ok {
				line = append(line, e.median)
			}
		}
		if len(line) == len(conns) {
			names, values = append(names, way), append(values, line)
			colours = append(colours, theme.GetSeriesColor(slices.Index(coloured, way)))
		}
	}
	opt := charts.NewBarChartOptionWithData(values)
	opt.Theme = theme.WithSeriesColors(colours)
	opt.Title.Text = m.title
	opt.Title.Subtext = "median time, as a multiple of " + m.ways[0] + "'s in the same round"
	opt.Title.FontStyle.FontSize = 13
	opt.CategoryAxis.Labels = labels
	opt.Legend.SeriesNames = names
	opt.Legend.Offset = charts.OffsetStr{Top: "46"}
	opt.ValueAxis[0].Min = charts.Ptr(0.0)
	for i := range opt.SeriesList {
		opt.SeriesList[i].Label.Show = charts.Ptr(true)
		opt.SeriesList[i].Label.ValueFormatter = number
	}
	opt.ValueFormatter = number
	p := charts.NewPainter(charts.PainterOptions{OutputFormat: charts.ChartOutputSVG, Width: 860, Height: 380})
	if err := p.BarChart(opt); err != nil {
		return nil, err
	}
	return p.Bytes()
}
