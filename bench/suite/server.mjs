// Serves a round's plan, modules and traces to the engine that runs it, and hears what it reports; all engines get them the same way.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { basename, extname } from "node:path";
import { fileURLToPath } from "node:url";
import { encodedTrace } from "./traces.mjs";

const root = fileURLToPath(new URL("../../", import.meta.url));
const TYPES = { ".mjs": "text/javascript", ".js": "text/javascript", ".wasm": "application/wasm", ".html": "text/html" };
/** What makes a page cross-origin isolated: threads share memory there only. */
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cache-Control": "no-store",
};
const PAGE = `<!doctype html><title>numaheap bench</title><script type="module" src="/bench/suite/runner.mjs"></script>`;

/** Bytes of a trace as runner.mjs reads them; they are the same in every round. */
const traces = new Map();
async function traceBytes(name, threads) {
  const key = `${name}/${threads}`;
  if (!traces.has(key)) {
    const { slots, events, peakLiveBytes, streams } = await encodedTrace(name, threads);
    const words = [Uint32Array.of(slots, events, peakLiveBytes, streams.length, ...streams.map(({ length }) => length)), ...streams];
    traces.set(key, Buffer.concat(words.map(({ buffer, byteOffset, byteLength }) => Buffer.from(buffer, byteOffset, byteLength))));
  }
  return traces.get(key);
}

export class Server {
  /** Paths of modules by the names they are asked by. */
  #modules = new Map();
  #plan = [];
  #hear = () => {};
  #server;

  async listen() {
    this.#server = createServer((request, response) => void this.#serve(request, response));
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** A subject whose modules are named as they can be asked for. */
  offer(subject) {
    const modules = Object.fromEntries(
      Object.entries(subject.modules).map(([role, path]) => {
        const name = `${subject.id}-${role}-${basename(path)}`;
        this.#modules.set(name, path);
        return [role, name];
      }),
    );
    return { ...subject, modules };
  }

  /** What the next engine is to do; `hear` is called with each of its reports. */
  begin(plan, hear) {
    this.#plan = plan;
    this.#hear = hear;
  }

  async #serve(request, response) {
    try {
      const { body, type } = await this.#answer(request);
      response.writeHead(200, { ...HEADERS, "Content-Type": type }).end(body);
    } catch (error) {
      response.writeHead(error.code === "ENOENT" ? 404 : 500, HEADERS).end(String(error));
    }
  }

  async #answer(request) {
    const [, kind, ...rest] = new URL(request.url, this.url).pathname.split("/");
    if (kind === "report") {
      this.#hear(JSON.parse(await text(request)));
      return { body: "", type: "text/plain" };
    }
    if (kind === "plan") return { body: JSON.stringify(this.#plan), type: "application/json" };
    if (kind === "module") return { body: await readFile(this.#modules.get(rest[0])), type: TYPES[".wasm"] };
    if (kind === "trace") return { body: await traceBytes(rest[0], Number(rest[1])), type: "application/octet-stream" };
    if (kind === "bench")
      return { body: await readFile(`${root}bench/${rest.join("/")}`), type: TYPES[extname(rest.at(-1))] ?? "text/plain" };
    if (kind === "") return { body: PAGE, type: TYPES[".html"] };
    throw Object.assign(new Error("nothing there"), { code: "ENOENT" });
  }
}

async function text(request) {
  let text = "";
  for await (const chunk of request.setEncoding("utf8")) text += chunk;
  return text;
}
