// Lists of CPUs or nodes as Linux writes them in /sys: "0-3,8".

/** Most numbers of a list; no machine has as many. What a text claims must not cost memory. */
const MAX_LIST = 65536;

/** Numbers of "0-3,8", ascending and each once; undefined if it is no such list. An empty text is an empty list. */
export function parseCpuList(text: string): number[] | undefined {
  const found = new Set<number>();
  if (text.trim() === "") return [];
  for (const part of text.trim().split(",")) {
    const match = /^(\d{1,10})(?:-(\d{1,10}))?$/.exec(part);
    if (!match) return undefined;
    const first = Number(match[1]);
    const last = Number(match[2] ?? first);
    if (last < first || last - first >= MAX_LIST - found.size) return undefined;
    for (let cpu = first; cpu <= last; ++cpu) found.add(cpu);
  }
  return [...found].sort((a, b) => a - b);
}

/** "0-3,8" of ascending numbers. */
export function formatCpuList(numbers: readonly number[]): string {
  const parts: string[] = [];
  for (let i = 0; i < numbers.length;) {
    let end = i + 1;
    while (end < numbers.length && numbers[end] === numbers[end - 1]! + 1) ++end;
    parts.push(end - i === 1 ? `${numbers[i]}` : `${numbers[i]}-${numbers[end - 1]}`);
    i = end;
  }
  return parts.join(",");
}
