import assert from "node:assert/strict";
import { once } from "node:events";
import net from "node:net";
import { appendFrame } from "../src/wire/append.js";
import { Op } from "../src/wire/codes.js";
import { defaultLimits, type Frame, type Limits } from "../src/wire/frame.js";
import { Framer } from "../src/wire/framer.js";
import { Output } from "../src/wire/output.js";
import { parseFrame } from "../src/wire/parse.js";
import { Reader } from "../src/wire/reader.js";

type Of<O, F = Frame> = F extends { op: infer P } ? (O extends P ? F : never) : never;

/** How long a test waits for anything, in ms. */
export const BOUND = 5_000;

/** The promise, or a failure after BOUND. */
export async function bounded<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => { timer = setTimeout(() => reject(new Error(`${what}: not within ${BOUND} ms`)), BOUND); });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

class Inbox<T> {
  readonly #items: T[] = [];
  readonly #takers: ((item: T) => void)[] = [];
  put(item: T): void {
    const taker = this.#takers.shift();
    if (taker) taker(item);
    else this.#items.push(item);
  }
  take(): Promise<T> {
    return this.#items.length > 0 ? Promise.resolve(this.#items.shift()!) : new Promise((resolve) => this.#takers.push(resolve));
  }
  rest(): T[] { return this.#items.splice(0); }
}

/** One connection to a fake node: the test reads the frames of the client and says what the node sends. */
export class FakeSession {
  readonly closed: Promise<void>;
  /** Credit that the client has granted, by kind. */
  readonly credit = [0, 0, 0];
  /** Whether pings are answered, by itself. */
  answers = true;
  /** Chunks that have come from the client. */
  chunks = 0;
  readonly #socket: net.Socket;
  readonly #inbox = new Inbox<Frame>();

  constructor(socket: net.Socket) {
    this.#socket = socket;
    this.closed = bounded("closed", new Promise<void>((resolve) => socket.once("close", () => resolve())));
    this.closed.catch(() => {});
    const framer = new Framer(defaultLimits.frame, (buf, start, end, owned) => {
      const reader = new Reader();
      reader.reset(buf, start, end, owned);
      const frame = parseFrame(reader);
      if (frame.op === Op.credit) this.credit[frame.kind]! += frame.n;
      if (frame.op === Op.ping && this.answers) this.send({ op: Op.pong, token: frame.token });
      else this.#inbox.put(frame);
      return true;
    });
    socket.on("data", (chunk) => { this.chunks++; framer.push(chunk); });
    socket.on("error", () => {});
  }

  raw(bytes: Uint8Array): void { this.#socket.write(bytes); }

  send(...frames: Frame[]): void {
    const out = new Output();
    for (const frame of frames) appendFrame(out, frame);
    this.raw(out.take());
  }

  welcome(limits: Partial<Limits> = {}): void {
    this.send({ op: Op.welcome, version: 1, limits: { ...defaultLimits, ...limits }, info: {}, features: [] });
  }

  /** The next frame but for credits and allows, unless one is expected; it must have the op. */
  async expect<O extends Frame["op"]>(op: O): Promise<Of<O>> {
    for (;;) {
      const frame = await bounded(`a frame with op ${op}`, this.#inbox.take());
      if (frame.op === op) return frame as Of<O>;
      if (frame.op !== Op.credit && frame.op !== Op.allow) assert.fail(`op ${frame.op} in place of ${op}: ${JSON.stringify(frame, (_, v: unknown) => (typeof v === "bigint" ? String(v) : v))}`);
    }
  }

  /** Sends a ping, and what the client had sent before it answered: a barrier. */
  async settle(token = 77): Promise<Frame[]> {
    this.send({ op: Op.ping, token });
    for (const seen: Frame[] = []; ;) {
      const frame = await bounded("a pong", this.#inbox.take());
      if (frame.op === Op.pong && frame.token === token) return seen;
      seen.push(frame);
    }
  }

  /** Frames that came and were not taken. */
  left(): Frame[] { return this.#inbox.rest(); }

  pause(): void { this.#socket.pause(); }
  resume(): void { this.#socket.resume(); }
  end(): void { this.#socket.end(); }
  destroy(): void { this.#socket.destroy(); }
}

/** A node as far as a test plays it, on a free TCP port of 127.0.0.1. */
export class FakeNode {
  readonly port: number;
  readonly #server: net.Server;
  readonly #sessions = new Inbox<FakeSession>();
  readonly #sockets = new Set<net.Socket>();

  private constructor(server: net.Server) {
    this.#server = server;
    this.port = (server.address() as net.AddressInfo).port;
    server.on("connection", (socket) => {
      this.#sockets.add(socket.once("close", () => this.#sockets.delete(socket)));
      this.#sessions.put(new FakeSession(socket));
    });
  }

  static async start(port = 0): Promise<FakeNode> {
    const server = net.createServer();
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return new FakeNode(server);
  }

  /** The next connection. */
  session(): Promise<FakeSession> { return bounded("a connection", this.#sessions.take()); }

  /** The next connection, which says hello and is welcomed. */
  async welcomed(limits: Partial<Limits> = {}): Promise<FakeSession> {
    const session = await this.session();
    await session.expect(Op.hello);
    session.welcome(limits);
    return session;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
