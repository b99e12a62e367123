import { existsSync, mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { encodeTrace, type TraceEvent } from "../../src/trace/encode.js";
import { TraceError, type TraceErrorCode } from "../../src/trace/errors.js";
import { parseTrace, readTrace, writeTrace } from "../../src/trace/file.js";
import { ALIGNED, decodeTrace, EXIT, FIXED_HEADER_BYTES, FREE, MALLOC } from "../../src/trace/format.js";
import { programs } from "../support/traces.js";

const folder = new URL("../../bench/traces/", import.meta.url);
const codeOf = (run: () => unknown): string => {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(TraceError);
    return (error as TraceError).code;
  }
  return "none";
};
const small = (): Uint8Array =>
  encodeTrace(
    [
      { op: MALLOC, thread: 0, object: 0, size: 300, alignment: 0 },
      { op: MALLOC, thread: 1, object: 1, size: 5, alignment: 0 },
      { op: FREE, thread: 1, object: 0, size: 0, alignment: 0 },
      { op: EXIT, thread: 1, object: 0, size: 0, alignment: 0 },
    ],
    "small",
    "by hand",
  );

describe("trace reader", () => {
  test("what the encoder writes comes back", () => {
    fc.assert(
      fc.property(programs(5), (events) => {
        const trace = decodeTrace(encodeTrace(events, "random", "events"));
        expect([trace.name, trace.description, trace.events]).toEqual(["random", "events", events.length]);
        let next = 0;
        events.forEach((event, i) => {
          const object = event.op < 3 ? next++ : event.object;
          const got = [trace.ops[i], trace.threadOf[i], trace.objectOf[i], trace.sizes[i], trace.alignments[i]];
          expect(got).toEqual([event.op, event.thread, object, event.size, event.alignment]);
        });
      }),
    );
  });

  test.each(readdirSync(folder).filter((name) => name.endsWith(".gz")))("%s keeps every promise", (name) => {
    expect(`${parseTrace(readFileSync(new URL(name, folder))).name}.trace.gz`).toBe(name);
  });

  test("every byte of a trace matters or is free text", () => {
    const bytes = small();
    const text = new TextDecoder("latin1").decode(bytes);
    const name = text.indexOf("small");
    const description = text.indexOf("by hand");
    for (let at = 0; at < bytes.length; ++at) {
      if ((at >= name && at < name + 5) || (at >= description && at < description + 7)) continue;
      for (let bit = 0; bit < 8; ++bit) {
        const damaged = bytes.slice();
        damaged[at]! ^= 1 << bit;
        expect(
          codeOf(() => decodeTrace(damaged)),
          `byte ${at} bit ${bit}`,
        ).toMatch(/^NUMAHEAP_TRACE_/);
      }
    }
  });

  test("every cut and every tail is told", () => {
    const bytes = small();
    for (let length = 0; length < bytes.length; ++length) {
      expect(codeOf(() => decodeTrace(bytes.subarray(0, length)))).toBe("NUMAHEAP_TRACE_TRUNCATED");
    }
    expect(codeOf(() => decodeTrace(new Uint8Array([...bytes, 0])))).toBe("NUMAHEAP_TRACE_TRAILING");
    const zipped = gzipSync(bytes);
    expect(parseTrace(zipped).events).toBe(4);
    for (let length = 0; length < zipped.length; ++length) {
      expect(codeOf(() => parseTrace(zipped.subarray(0, length)))).toBe("NUMAHEAP_TRACE_GZIP");
    }
    expect(codeOf(() => parseTrace(Buffer.concat([zipped, Buffer.from("tail")])))).toBe("NUMAHEAP_TRACE_GZIP");
  });

  test("what inflates beyond the bound is refused", () => {
    expect(codeOf(() => parseTrace(gzipSync(new Uint8Array(1 << 20)), 1 << 16))).toBe("NUMAHEAP_TRACE_TOO_LARGE");
  });

  test("a header that claims more than the file can hold allocates nothing", () => {
    const bytes = small();
    new DataView(bytes.buffer).setBigUint64(16, 2n ** 40n, true);
    expect(codeOf(() => decodeTrace(bytes))).toBe("NUMAHEAP_TRACE_HEADER");
    new DataView(bytes.buffer).setBigUint64(16, 2n ** 60n, true);
    expect(codeOf(() => decodeTrace(bytes))).toBe("NUMAHEAP_TRACE_RANGE");
  });

  test("a dead object, an ended thread and a thread out of order are found", () => {
    const event = (op: number, thread: number, object: number) => ({ op, thread, object, size: 8, alignment: 0 });
    const code = (...events: ReturnType<typeof event>[]) => codeOf(() => decodeTrace(encodeTrace(events, "bad")));
    expect(code(event(MALLOC, 0, 0), event(FREE, 0, 0), event(FREE, 0, 0))).toBe("NUMAHEAP_TRACE_OBJECT");
    expect(code(event(MALLOC, 0, 0), event(EXIT, 0, 0), event(FREE, 0, 0))).toBe("NUMAHEAP_TRACE_THREAD");
    expect(code(event(MALLOC, 1, 0), event(MALLOC, 0, 0))).toBe("NUMAHEAP_TRACE_THREAD");
  });

  test.each<[object | null, TraceErrorCode, RegExp]>([
    [{ op: 6 }, "NUMAHEAP_TRACE_TAG", /^op of event 1 must be a whole number from 0 to 5, not 6/],
    [{ op: "free" }, "NUMAHEAP_TRACE_TAG", /^op of event 1 .* not "free"/],
    [null, "NUMAHEAP_TRACE_TAG", /^event 1 must be an object, not null/],
    [{ thread: -1 }, "NUMAHEAP_TRACE_THREAD", /^thread of event 1/],
    [{ thread: 2 ** 32 }, "NUMAHEAP_TRACE_THREAD", /^thread of event 1/],
    [{ size: NaN }, "NUMAHEAP_TRACE_RANGE", /^size of event 1/],
    [{ size: -1 }, "NUMAHEAP_TRACE_RANGE", /^size of event 1/],
    [{ size: undefined }, "NUMAHEAP_TRACE_RANGE", /^size of event 1 .* not undefined/],
    [{ op: ALIGNED, size: 8, alignment: 32 }, "NUMAHEAP_TRACE_RANGE", /^alignment of event 1 must be a whole number from 0 to 31/],
    [{ op: FREE }, "NUMAHEAP_TRACE_OBJECT", /^object of event 1 .* not undefined/],
    [{ op: FREE, object: 1 }, "NUMAHEAP_TRACE_OBJECT", /^event 1 names object 1, and only 1 were made before it/],
  ])("no event is encoded with %o", async (wrong, code, message) => {
    const right = { op: MALLOC, thread: 0, size: 8 };
    const events = [right, wrong && { ...right, ...wrong }] as TraceEvent[];
    const words = expect.stringMatching(message) as string;
    // Where its tag would stand: behind the header and the one of the event before.
    const refused = expect.objectContaining({ name: "TraceError", code, message: words, offset: FIXED_HEADER_BYTES + 4 + 5 + 4 + 1 });
    expect(() => encodeTrace(events, "wrong")).toThrow(refused);
    await expect(writeTrace("/no/folder", events, "wrong")).rejects.toEqual(refused);
  });

  test("what is written is what is read, and nothing is written that cannot be", async () => {
    const path = join(mkdtempSync(join(tmpdir(), "numaheap-")), "written.trace.gz");
    const twice: TraceEvent[] = [0, 1, 1].map((n) => (n === 0 ? { op: MALLOC, thread: 0, size: 9 } : { op: FREE, thread: 0, object: 0 }));
    await expect(writeTrace(path, twice, "twice")).rejects.toMatchObject({ code: "NUMAHEAP_TRACE_OBJECT" });
    await expect(writeTrace(path, twice.slice(0, 2), "na\u00efve")).rejects.toMatchObject({ code: "NUMAHEAP_TRACE_HEADER" });
    expect(existsSync(path)).toBe(false);
    await writeTrace(path, twice.slice(0, 2), "once", "by hand");
    expect(await readTrace(path)).toEqual(decodeTrace(encodeTrace(twice.slice(0, 2), "once", "by hand")));
  });

  test("mutations give a TraceError or a trace, nothing else", () => {
    const real = gunzipSync(readFileSync(new URL("imagemagick.trace.gz", folder)));
    const base = [small(), encodeTrace(fc.sample(programs(3, 200), { numRuns: 1, seed: 7 })[0]!, "sample"), real.subarray(0, 20_000)];
    const edit = fc.record({ at: fc.nat(), bytes: fc.uint8Array({ maxLength: 12 }), cut: fc.nat(12) });
    fc.assert(
      fc.property(fc.constantFrom(...base), fc.array(edit, { minLength: 1, maxLength: 6 }), (bytes, edits) => {
        let mutated = Buffer.from(bytes);
        for (const { at, bytes: put, cut } of edits) {
          const start = at % (mutated.length + 1);
          mutated = Buffer.concat([mutated.subarray(0, start), put, mutated.subarray(start + cut)]);
        }
        codeOf(() => decodeTrace(mutated));
        codeOf(() => parseTrace(mutated));
      }),
      { numRuns: 500 },
    );
  });

  test("a file without end is not read to its end", async () => {
    await expect(readTrace("/dev/zero", 2 ** 20)).rejects.toMatchObject({ name: "TraceError", code: "NUMAHEAP_TRACE_TOO_LARGE" });
  });

  test("counts that the columns cannot hold cost no memory", () => {
    // 8 million tags, and nothing for them to allocate.
    const bytes = new Uint8Array(FIXED_HEADER_BYTES + 8 + 8 * 2 ** 20);
    bytes.set(small().subarray(0, FIXED_HEADER_BYTES));
    const view = new DataView(bytes.buffer);
    view.setBigUint64(16, 8n * 2n ** 20n, true);
    view.setBigUint64(24, 8n * 2n ** 20n, true);
    [8 * 2 ** 20, 0, 0].forEach((length, i) => view.setUint32(60 + 4 * i, length, true));
    const before = process.memoryUsage().arrayBuffers;
    expect(codeOf(() => decodeTrace(bytes))).toBe("NUMAHEAP_TRACE_HEADER");
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20);
  });
});
