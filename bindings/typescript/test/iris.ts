import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { connect } from "../src/index.js";
import { BOUND, bounded } from "./fakenode.js";

/** The iris binary to test against, or nothing: then these tests are skipped. */
export const binary = process.env["IRIS_BINARY"];

async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A real node, `iris -dev`, with a folder of its own for its socket, which this process looks into from then on. */
export class Iris {
  readonly port: number;
  readonly #folder: string;
  #process!: ChildProcess;

  private constructor(port: number, folder: string) {
    this.port = port;
    this.#folder = folder;
  }

  static async start(port?: number): Promise<Iris> {
    const folder = await mkdtemp(path.join(os.tmpdir(), "iris-test-"));
    process.env["IRIS_RUNTIME_DIR"] = folder;
    const iris = new Iris(port ?? (await freePort()), folder);
    await iris.run();
    return iris;
  }

  /** Starts the node, and returns when clients may attach. */
  async run(): Promise<void> {
    this.#process = spawn(binary!, ["-dev", "-port", String(this.port), "-log-level", "error"], { stdio: "inherit", env: { ...process.env, IRIS_RUNTIME_DIR: this.#folder } });
    for (const until = performance.now() + BOUND; ;) {
      const client = await connect(this.port).catch((err: unknown) => {
        if (performance.now() > until) throw err;
      });
      if (client) return client.close();
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Ends the node with a signal and waits for its end. */
  async stop(signal: NodeJS.Signals): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exit = once(this.#process, "exit");
    this.#process.kill(signal);
    await bounded("the end of iris", exit);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
    await rm(this.#folder, { recursive: true, force: true });
  }
}
