// Pictures of a run's results, as SVG.
import { writeFileSync } from "node:fs";
import { parse, View } from "vega";
import { compile } from "vega-lite";

const OURS = "#c0392b";
const FLOOR = "#95a5a6";
/** numaheap in other circumstances. */
const ALIKE = "#e6b0aa";
/** Of the rivals, by the beginning of their ids: builds for one thread and for many have one colour. */
const COLOURS = {
  "as-minimal": "#1f77b4",
  "emnapi-dlmalloc": "#ff7f0e",
  "emnapi-emmalloc": "#2ca02c",
  "emscripten-dlmalloc": "#9467bd",
  "emscripten-emmalloc": "#8c564b",
  mimalloc: "#e377c2",
  "wasm-vips-mimalloc": "#17becf",
  "wasi-dlmalloc": "#bcbd22",
  "rust-dlmalloc": "#34495e",
  "thi-ng": "#7f6000",
};

/** Bytes of an SVG of a Vega-Lite picture. */
async function svg(spec) {
  const config = { background: "white", font: "sans-serif", view: { stroke: null } };
  const view = new View(parse(compile({ $schema: "https://vega.github.io/schema/vega-lite/v6.json", config, ...spec }).spec), {
    renderer: "none",
  });
  const text = await view.toSVG();
  view.finalize();
  return `${text}\n`;
}

function colourOf({ id, kind }) {
  if (id === "numaheap") return OURS;
  if (kind === "floor") return FLOOR;
  return COLOURS[Object.keys(COLOURS).find((start) => id.startsWith(start))] ?? ALIKE;
}

/** The scale of the allocators that a picture's rows have. */
function coloursOf(rows, subjects) {
  const there = new Set(rows.map(({ allocator }) => allocator));
  const shown = subjects.filter(({ title }) => there.has(title));
  return { domain: shown.map(({ title }) => title), range: shown.map(colourOf) };
}

const legend = (values, subjects) => ({
  field: "allocator",
  type: "nominal",
  scale: coloursOf(values, subjects),
  title: null,
  legend: { labelLimit: 300 },
});

/** One figure an allocator and cell: { cell, title of the cell, allocator, median, p10, p90 }. */
function rowsOf(cells, subjects) {
  const titles = new Map(subjects.map(({ id, title }) => [id, title]));
  return cells.flatMap(({ cell, threads, title, unit, spread }) =>
    Object.entries(spread)
      .filter(([id]) => titles.has(id))
      .map(([id, figures]) => ({ cell, letter: cell[0], threads, title, unit, allocator: titles.get(id), ...figures })),
  );
}

/** How much slower than the fastest a bar may be to be drawn, and how far beyond the longest bar a spread may reach. */
const NEAR = 6;
const MARGIN = 1.4;

/** Bars: time of the allocators in every cell, shortest first; of those that are far slower, how many there are. */
export function bars(cells, subjects) {
  const picked = cells.filter(({ threads }) => threads <= 2);
  const rows = rowsOf(picked, subjects);
  const ours = new Map(subjects.map(({ id, title }) => [title, id]));
  const panel = ({ cell, title, unit, threads }) => {
    const own = rows.filter((row) => row.cell === cell);
    const rivals = own.filter(({ allocator }) => coloursOf([{ allocator }], subjects).range[0] !== FLOOR);
    const fastest = Math.min(...rivals.map(({ median }) => median));
    const values = own.filter(({ allocator, median }) => median <= NEAR * fastest || ours.get(allocator) === "numaheap");
    const longest = MARGIN * Math.max(...values.map(({ median }) => median));
    const slower = own.length - values.length;
    const words = [
      `${unit}, ${threads === 1 ? "1 thread" : `${threads} threads`}`,
      ...(slower ? [`${slower} more over ${NEAR} times the fastest`] : []),
    ];
    return {
      title: { text: `${cell}: ${title}`, subtitle: words.join("; "), anchor: "start", fontSize: 11, frame: "group", limit: 500 },
      data: { values: values.map((row) => ({ ...row, low: Math.min(row.p10, longest), high: Math.min(row.p90, longest) })) },
      width: 230,
      height: { step: 13 },
      layer: [
        { mark: "bar", encoding: { color: { ...legend(values, subjects), legend: null } } },
        { mark: "rule", encoding: { x: { field: "low", type: "quantitative" }, x2: { field: "high" } } },
        {
          mark: { type: "text", align: "left", dx: 4, fontSize: 9 },
          encoding: { x: { field: "high", type: "quantitative" }, text: { field: "median", type: "quantitative", format: ".3~s" } },
        },
      ],
      encoding: {
        x: { field: "median", type: "quantitative", title: null, axis: { tickCount: 4 }, scale: { domain: [0, longest] } },
        y: {
          field: "allocator",
          type: "nominal",
          sort: { field: "median", op: "min" },
          title: null,
          axis: { labelLimit: 230 },
        },
      },
    };
  };
  return svg({ concat: picked.map(panel), columns: 3, resolve: { scale: { x: "independent", y: "independent", color: "independent" } } });
}

/** Scaling: pairs of all threads together in a second, over the number of threads. */
export function scaling(cells, subjects) {
  const letters = [...new Set(cells.filter(({ threads }) => threads > 1).map(({ cell }) => cell[0]))].filter((letter) =>
    "abcefg".includes(letter),
  );
  const values = rowsOf(cells, subjects)
    .filter(({ letter }) => letters.includes(letter))
    .map((each) => ({ ...each, panel: `${each.letter}: ${each.title.split(":")[0]}`, rate: (each.threads * 1000) / each.median }));
  return svg({
    data: { values },
    facet: { field: "panel", type: "nominal", title: null },
    columns: 3,
    resolve: { scale: { y: "independent" } },
    spec: {
      width: 220,
      height: 160,
      mark: { type: "line", point: true },
      encoding: {
        x: { field: "threads", type: "ordinal", title: "threads", axis: { labelAngle: 0 } },
        y: { field: "rate", type: "quantitative", title: "million pairs a second", scale: { type: "log" } },
        color: legend(values, subjects),
      },
    },
  });
}

/** Time over size: the parts of the cell t. */
export function overSize(parts, subjects) {
  const titles = new Map(subjects.map(({ id, title }) => [id, title]));
  const values = parts.filter(({ cell }) => cell === "t1").map((each) => ({ ...each, allocator: titles.get(each.subject) }));
  return svg({
    data: { values },
    width: 520,
    height: 300,
    mark: { type: "line", point: true },
    encoding: {
      x: { field: "part", type: "quantitative", scale: { type: "log", base: 2 }, title: "bytes" },
      y: { field: "median", type: "quantitative", scale: { type: "log" }, title: "ns/pair" },
      color: legend(values, subjects),
    },
  });
}

/** Committed over live bytes through traces, each on one thread. */
export function footprint(parts, subjects, names) {
  const titles = new Map(subjects.map(({ id, title }) => [id, title]));
  const values = parts
    .filter(({ part: trace, cell, series }) => cell === "n1" && names.includes(trace) && series?.length)
    .flatMap(({ part: trace, subject, series, peakLiveBytes }) =>
      series.map((committed, i) => ({
        trace,
        allocator: titles.get(subject),
        share: (i + 1) / series.length,
        ratio: committed / peakLiveBytes,
      })),
    );
  return svg({
    data: { values },
    facet: { field: "trace", type: "nominal", title: null },
    columns: 2,
    spec: {
      width: 300,
      height: 200,
      mark: "line",
      encoding: {
        x: { field: "share", type: "quantitative", title: "of the trace's events", axis: { format: "%" } },
        y: { field: "ratio", type: "quantitative", title: "committed / peak live bytes", scale: { type: "log" } },
        color: legend(values, subjects),
      },
    },
  });
}

export const write = async (path, picture) => writeFileSync(path, await picture);
