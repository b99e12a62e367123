// What a run of the benchmark prints, and the files it leaves.
import { cpus, release, totalmem } from "node:os";
import { table } from "../../dist/cli/tables.js";

const figure = (value) => (value === undefined ? "-" : value >= 1000 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(3));
const times = (value) => (value === undefined ? "-" : `${value.toFixed(2)} x`);

/** What the figures were measured on. */
export const machine = () => ({
  cpu: cpus()[0].model,
  processors: cpus().length,
  memoryBytes: totalmem(),
  os: `${process.platform} ${release()}`,
});

function row(name, figures, titles, scaling) {
  const { numaheap, floor, floorRatio, bestRival, bestRivalRatio, rivals, spread } = figures;
  const own = spread.numaheap;
  const best = rivals[bestRival];
  const wins = bestRivalRatio !== undefined && bestRivalRatio < 1;
  return [
    name,
    figure(numaheap) + (own ? ` [${figure(own.p10)}..${figure(own.p90)}]` : "") + (wins ? " *" : ""),
    figure(floor),
    times(floorRatio),
    figure(best) + (bestRivalRatio !== undefined && !wins ? " *" : ""),
    bestRival ? titles.get(bestRival) : "-",
    times(bestRivalRatio),
    scaling ? times(scaling.median) : "",
  ];
}

/**
 * The table: a line a cell, and one below it for calls across modules. The faster of numaheap and its best rival has a star; "threads to one" is the
 * throughput of numaheap's threads together over that of one.
 */
export function tableOf(cells, subjects) {
  const titles = new Map(subjects.map(({ id, title }) => [id, title]));
  const rows = cells.flatMap((each) => {
    const { cell, cross, unit, build, threads, processors } = each;
    const crowded = threads > processors ? " (more threads than processors)" : "";
    const first = row(`${cell} ${unit}${build === "cross" ? ", called" : ""}${crowded}`, each, titles, each.scaling);
    return cross ? [first, row(`${cell} called`, cross, titles)] : [first];
  });
  return table(["cell", "numaheap [p10..p90]", "floor", "to floor", "best rival", "", "to best rival", "threads to one"], rows);
}

/** Bytes committed over bytes live, least first. */
export function footprintTableOf(footprint, subjects) {
  const titles = new Map(subjects.map(({ id, title }) => [id, title]));
  const rows = footprint
    .toSorted((a, b) => a.cell.localeCompare(b.cell) || a.ratio - b.ratio)
    .map(({ cell, subject, ratio, most }) => [cell, titles.get(subject), ratio.toFixed(3), most.toFixed(3)]);
  return rows.length ? table(["traces", "committed / peak live bytes", "geometric mean", "most"], rows) : "";
}

/** numaheap in WebAssembly beside native programs with the same loops. */
export function nativeTableOf(cells, native) {
  const names = [...new Set(Object.values(native).flatMap((each) => Object.keys(each)))];
  if (!names.length) return "";
  const rows = cells
    .filter(({ cell }) => native[cell])
    .map(({ cell, numaheap }) => [
      cell,
      figure(numaheap),
      ...names.map((name) => `${figure(native[cell][name])} (${times(numaheap / native[cell][name])})`),
    ]);
  return `\n${table(["cell", "numaheap, WebAssembly", ...names.map((name) => `native ${name}`)], rows)}`;
}

/** What the letters mean, or cells where a letter means several things. */
export function legendOf(cells) {
  const titles = new Map(cells.map(({ cell, title }) => [title, cell]));
  const letters = [...titles.values()].map((cell) => cell[0]);
  const nameOf = (cell) => (letters.indexOf(cell[0]) === letters.lastIndexOf(cell[0]) ? cell[0] : cell);
  return [...titles].map(([title, cell]) => `  ${nameOf(cell).padEnd(2)} ${title}`).join("\n");
}

/** What following the topology is worth, in words. */
export function numaWordsOf(numa) {
  if (!numa) return "";
  const share = ({ allocations, frees }) => `${(allocations * 100).toFixed(1)} % of allocations and ${(frees * 100).toFixed(1)} % of frees`;
  return `A thread whose vCPU changes nodes every 10,000 allocations has ${share(numa.told)} on its node; ${share(numa.untold)} where the heap is not told.
A rebind takes ${(numa.rebindNsPerSpan / 1000).toFixed(2)} µs a span.
`;
}

/** Every allocator's figure in every cell, a line each. */
export function csvOf({ cells, machine, engine, versions }) {
  const head = ["cell", "threads", "unit", "build", "allocator", "version", "median", "p10", "p90", "engine", "cpu"];
  const lines = cells.flatMap((each) =>
    [["", each], ...(each.cross ? [["cross", each.cross]] : [])].flatMap(([called, figures]) =>
      Object.entries(figures.spread)
        .filter(([id]) => id in versions)
        .map(([id, { median, p10, p90 }]) => {
          const place = [each.cell, each.threads, each.unit, called || each.build, id, versions[id]];
          return [...place, ...[median, p10, p90].map((value) => value.toPrecision(5)), `${engine.name} ${engine.version}`, machine.cpu]
            .map(quoted)
            .join(",");
        }),
    ),
  );
  return `${[head.join(","), ...lines].join("\n")}\n`;
}

const quoted = (value) => (/[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : value);

/** Cells that say nothing, and npm rivals that were not measured: a run that has any of them fails. */
export function lacking(cells, { subjects, missing }) {
  const without = cells
    .filter(({ numaheap, rivals }) => numaheap === undefined || Object.keys(rivals).length === 0)
    .map(({ cell }) => `cell ${cell}`);
  const unmeasured = subjects
    .filter(({ from }) => from === "npm")
    .filter(({ id }) => !cells.some(({ rivals, cross }) => id in rivals || id in (cross?.rivals ?? {})))
    .map(({ id }) => `rival ${id}`);
  return [...without, ...unmeasured, ...missing.filter(({ from }) => from === "npm").map(({ id }) => `rival ${id}`)];
}
