// Pictures of a run's results, as SVG.
import { writeFileSync } from "node:fs";
import { parse, View } from "vega";
import { compile } from "vega-lite";

const OURS = "#c0392b";
const FLOOR = "#7f8c8d";
const RIVALS = ["#2c3e50", "#2980b9", "#16a085", "#8e44ad", "#d35400", "#27ae60", "#7f6000", "#34495e", "#5dade2"];

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

const colours = (subjects) => {
  const rivals = subjects.filter(({ kind }) => kind === "rival");
  const colourOf = ({ id, kind }) =>
    id === "numaheap" ? OURS : kind === "floor" ? FLOOR : RIVALS[rivals.findIndex((each) => each.id === id) % RIVALS.length];
  return { domain: subjects.map(({ title }) => title), range: subjects.map(colourOf) };
};

/** One figure an allocator and cell: { cell, title of the cell, allocator, median, p10, p90 }. */
function rowsOf(cells, subjects) {
  const titles = new Map(subjects.map(({ id, title }) => [id, title]));
  return cells.flatMap(({ cell, threads, title, unit, spread }) =>
    Object.entries(spread)
      .filter(([id]) => titles.has(id))
      .map(([id, figures]) => ({ cell, letter: cell[0], threads, title, unit, allocator: titles.get(id), ...figures })),
  );
}

/** Bars: time of every allocator in every cell, on a logarithmic scale of its own, shortest first. */
export function bars(cells, subjects) {
  const picked = cells.filter(({ threads }) => threads <= 2);
  const { domain, range } = colours(subjects);
  const panel = ({ cell, title, unit, threads }) => ({
    title: {
      text: `${cell}: ${title}`,
      subtitle: `${unit}, ${threads === 1 ? "1 thread" : `${threads} threads`}`,
      anchor: "start",
      fontSize: 11,
    },
    width: 230,
    height: { step: 13 },
    transform: [{ filter: `datum.cell === '${cell}'` }],
    layer: [
      { mark: "bar", encoding: { color: { field: "allocator", type: "nominal", scale: { domain, range }, legend: null } } },
      { mark: { type: "rule" }, encoding: { x: { field: "p10", type: "quantitative" }, x2: { field: "p90" } } },
      {
        mark: { type: "text", align: "left", dx: 4, fontSize: 9 },
        encoding: { text: { field: "median", type: "quantitative", format: ".3~s" } },
      },
    ],
    encoding: {
      x: { field: "median", type: "quantitative", title: null, axis: { tickCount: 4 } },
      y: { field: "allocator", type: "nominal", sort: { field: "median", op: "min" }, title: null },
    },
  });
  return svg({
    data: { values: rowsOf(picked, subjects) },
    concat: picked.map(panel),
    columns: 3,
    resolve: { scale: { x: "independent", y: "independent" } },
  });
}

/** Scaling: pairs of all threads together in a second, over the number of threads. */
export function scaling(cells, subjects) {
  const letters = [...new Set(cells.filter(({ threads }) => threads > 1).map(({ cell }) => cell[0]))].filter((letter) =>
    "abcefg".includes(letter),
  );
  const values = rowsOf(cells, subjects)
    .filter(({ letter }) => letters.includes(letter))
    .map((each) => ({ ...each, rate: (each.threads * 1000) / each.median }));
  const { domain, range } = colours(subjects);
  return svg({
    data: { values },
    facet: { field: "letter", type: "nominal", title: null },
    columns: 3,
    spec: {
      width: 220,
      height: 160,
      mark: { type: "line", point: true },
      encoding: {
        x: { field: "threads", type: "ordinal", title: "threads" },
        y: { field: "rate", type: "quantitative", title: "million pairs a second" },
        color: { field: "allocator", type: "nominal", scale: { domain, range }, title: null },
      },
    },
  });
}

/** Time over size: the parts of the cell t. */
export function overSize(parts, subjects) {
  const titles = new Map(subjects.map(({ id, title }) => [id, title]));
  const { domain, range } = colours(subjects);
  return svg({
    data: { values: parts.filter(({ cell }) => cell === "t1").map((each) => ({ ...each, allocator: titles.get(each.subject) })) },
    width: 520,
    height: 300,
    mark: { type: "line", point: true },
    encoding: {
      x: { field: "part", type: "quantitative", scale: { type: "log", base: 2 }, title: "bytes" },
      y: { field: "median", type: "quantitative", scale: { type: "log" }, title: "ns/pair" },
      color: { field: "allocator", type: "nominal", scale: { domain, range }, title: null },
    },
  });
}

/** Committed over live bytes through traces, each on one thread. */
export function footprint(parts, subjects, names) {
  const titles = new Map(subjects.map(({ id, title }) => [id, title]));
  const { domain, range } = colours(subjects);
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
    columns: 3,
    spec: {
      width: 220,
      height: 160,
      mark: "line",
      encoding: {
        x: { field: "share", type: "quantitative", title: "of the trace's events", axis: { format: "%" } },
        y: { field: "ratio", type: "quantitative", title: "committed / peak live bytes" },
        color: { field: "allocator", type: "nominal", scale: { domain, range }, title: null },
      },
    },
  });
}

export const write = async (path, picture) => writeFileSync(path, await picture);
