// Draws one dashboard with Grafana's own components: its panels, units, colours and legends. The panel
// plugins themselves are not on npm, so this is a preview, and no Grafana.
// In: `data.json`, whose panels hold what their queries found (draw.py writes it). Out: a page.
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  applyFieldOverrides, createTheme, FieldType, getDisplayProcessor,
  standardEditorsRegistry, standardFieldConfigEditorRegistry, toDataFrame, ThemeContext,
} from '@grafana/data';
import {
  BigValue, BigValueColorMode, BigValueGraphMode, GlobalStyles, LegendDisplayMode, PanelChrome,
  Table, TimeSeries,
} from '@grafana/ui';

standardEditorsRegistry.setInit(() => []);
standardFieldConfigEditorRegistry.setInit(() => []);
const theme = createTheme({ colors: { mode: 'light' } });
const UNIT = 36, GAP = 8;

function legend(target, labels) {
  const format = target.legendFormat;
  if (format && format !== '__auto') return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, n) => labels[n] ?? '');
  const rest = Object.entries(labels).filter(([n]) => n !== '__name__');
  return rest.length ? rest.map(([, v]) => v).join(' ') : 'Value';
}

function finish(frames, panel) {
  return applyFieldOverrides({
    data: frames, theme, fieldConfig: panel.fieldConfig, replaceVariables: (t) => t, timeZone: 'utc',
    fieldConfigRegistry: undefined,
  }).map((frame) => {
    frame.fields.forEach((field, index) => {
      if (field.type === FieldType.number) {
        field.config = { ...panel.fieldConfig.defaults, ...field.config, custom: panel.fieldConfig.defaults.custom ?? {} };
        field.state = { ...field.state, seriesIndex: index - 1 };
      }
      field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
    });
    return frame;
  });
}

function series(panel) {
  const times = [...new Set(panel.targets.flatMap((t) => t.result.flatMap((r) => r.values.map(([at]) => at * 1000))))].sort((a, b) => a - b);
  const fields = [{ name: 'Time', type: FieldType.time, values: times, config: {} }];
  for (const target of panel.targets)
    for (const one of target.result) {
      const at = new Map(one.values.map(([t, v]) => [t * 1000, Number(v)]));
      fields.push({ name: legend(target, one.metric), type: FieldType.number, values: times.map((t) => at.get(t) ?? null), config: { displayName: legend(target, one.metric) } });
    }
  return finish([toDataFrame({ fields })], panel)[0];
}

function rows(panel) {
  const found = panel.targets.flatMap((t) => t.result);
  const names = [...new Set(found.flatMap((r) => Object.keys(r.metric)))].filter((n) => n !== '__name__').sort();
  const fields = names.map((n) => ({ name: n, type: FieldType.string, values: found.map((r) => r.metric[n] ?? ''), config: {} }));
  fields.push({ name: 'Value', type: FieldType.number, values: found.map((r) => Number(r.value[1])), config: {} });
  return finish([toDataFrame({ fields })], panel)[0];
}

function Body({ panel, width, height, range }) {
  if (panel.type === 'timeseries') {
    const frame = series(panel);
    return <TimeSeries frames={[frame]} structureRev={1} width={width} height={height} timeRange={range} timeZone="utc"
      legend={{ displayMode: LegendDisplayMode.List, placement: 'bottom', showLegend: true, calcs: [] }} options={{}} theme={theme} />;
  }
  if (panel.type === 'table') return <Table data={rows(panel)} width={width} height={height} columnMinWidth={70} />;
  const found = panel.targets.flatMap((t) => t.result.map((r) => [legend(t, r.metric), Number(r.value[1])]));
  return <div style={{ display: 'flex' }}>{found.map(([name, value], i) => {
    const field = finish([toDataFrame({ fields: [{ name, type: FieldType.number, values: [value], config: {} }] })], panel)[0].fields[0];
    const shown = { ...field.display(value), title: found.length > 1 ? name : undefined };
    return <BigValue key={i} width={width / found.length} height={height} value={shown} theme={theme}
      colorMode={BigValueColorMode.Background} graphMode={BigValueGraphMode.None} />;
  })}</div>;
}

class Guard extends React.Component {
  state = {};
  static getDerivedStateFromError(error) { return { error }; }
  render() { return this.state.error ? <pre>{String(this.state.error.stack).slice(0, 600)}</pre> : this.props.children; }
}

function Board({ board, range, width }) {
  const column = (width - GAP) / 24;
  const bottom = Math.max(...board.panels.map((p) => p.gridPos.y + p.gridPos.h));
  return <div style={{ position: 'relative', width, height: bottom * (UNIT + 2) + 56, background: theme.colors.background.canvas }}>
    <h3 style={{ padding: '12px 12px 0', fontSize: 20 }}>{board.title}</h3>
    {board.panels.map((panel) => {
      const { x, y, w, h } = panel.gridPos;
      const [pw, ph] = [w * column - GAP, h * (UNIT + 2) - GAP];
      return <div key={panel.id} style={{ position: 'absolute', left: x * column + GAP, top: 48 + y * (UNIT + 2), width: pw, height: ph }}>
        <PanelChrome width={pw} height={ph} title={panel.title}>
          {(iw, ih) => <Guard><Body panel={panel} width={iw} height={ih} range={range} /></Guard>}
        </PanelChrome>
      </div>;
    })}
  </div>;
}

const time = (at) => ({ valueOf: () => at, toDate: () => new Date(at), utc: () => time(at), diff: () => 0, isValid: () => true, format: () => '' });
fetch('data.json').then((r) => r.json()).then(({ start, end, boards }) => {
  const board = boards.find((b) => b.file === new URLSearchParams(location.search).get('board'));
  const range = { from: time(start), to: time(end), raw: { from: time(start), to: time(end) } };
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}><GlobalStyles /><Board board={board} range={range} width={1200} /></ThemeContext.Provider>);
});
