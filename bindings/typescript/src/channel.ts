import type net from "node:net";
import { ProtocolError } from "./errors.js";
import { TEXT } from "./wire/codes.js";
import type { Frame } from "./wire/frame.js";
import { Framer } from "./wire/framer.js";
import { Output } from "./wire/output.js";
import { parseFrame } from "./wire/parse.js";
import { Reader } from "./wire/reader.js";

/** Bytes that may wait to be written before senders have to wait. Answers never do. */
const FULL = 1 << 20;

/** How long the other side may take to close, in ms, when this side has ended. */
const GRACE = 1_000;

/** What a channel tells. */
export interface ChannelEvents {
  frame(frame: Frame): void;
  /** A frame that breaks the protocol, found here or thrown by `frame`. Nothing more is read. */
  broken(err: ProtocolError): void;
  /** The stream is over; called once. */
  over(reason: string): void;
  /** Called before what was collected is written: the last occasion to add to it. */
  writing(): void;
  /** There is room again for senders. */
  room(): void;
}

/**
 * Channel is frames over a socket. What is appended to `out` during one turn of the event loop is written at once,
 * when `touch` was called.
 */
export class Channel {
  readonly out = new Output();
  readonly #events: ChannelEvents;
  readonly #reader = new Reader();
  readonly #framer: Framer;
  #socket: net.Socket | undefined;
  #touched = false;
  #deaf = false; // nothing more is read
  #ended = false; // nothing more is written
  #over = false;
  #received = 0;
  #waiting = 0; // bytes handed to the socket that it has not taken
  #closed: (() => void)[] = [];

  constructor(events: ChannelEvents) {
    this.#events = events;
    this.#framer = new Framer(TEXT, (buf, start, end, owned) => {
      this.#reader.reset(buf, start, end, owned);
      this.#events.frame(parseFrame(this.#reader));
      return !this.#deaf;
    });
  }

  /** Chunks that have come: whether it grows tells whether the node is alive, relay.md 6.2. */
  get received(): number { return this.#received; }

  /** Whether senders have to wait for `room`. */
  get full(): boolean { return this.#waiting + this.out.length > FULL; }

  /** Sets what the content of a frame may have, relay.md 4.2: that of the opening until then. */
  set limit(bytes: number) { this.#framer.limit = bytes; }

  /** Takes bytes of the stream, not keeping them. */
  readonly intake = (n: number, buf: Buffer): void => {
    this.#received++;
    if (this.#deaf) return;
    try {
      this.#framer.push(buf.subarray(0, n));
    } catch (err) {
      if (!(err instanceof ProtocolError)) throw err;
      this.#deaf = true;
      this.#events.broken(err);
    }
  };

  /** Uses the socket, whose bytes go to `intake`. */
  use(socket: net.Socket): void {
    this.#socket = socket;
    let reason = "the node closed the connection";
    socket.on("error", (err) => { reason = err.message; });
    socket.on("end", () => this.end());
    socket.on("close", () => {
      this.#over = this.#deaf = this.#ended = true;
      this.#events.over(reason);
      for (const resolve of this.#closed) resolve();
    });
    socket.resume();
  }

  /** Has what was appended written when this turn of the event loop is over. */
  touch(): void {
    if (this.#touched || this.#ended) return;
    this.#touched = true;
    setImmediate(this.#flush);
  }

  /** Writes what was appended, closes, and stops to read. */
  end(): void {
    this.#deaf = true;
    if (this.#ended) return;
    this.#write();
    this.#ended = true;
    this.#socket?.end();
    const timer = setTimeout(() => this.#socket?.destroy(), GRACE);
    this.#socket?.once("close", () => clearTimeout(timer));
  }

  /** Resolves when the socket is closed. */
  closed(): Promise<void> {
    return this.#over ? Promise.resolve() : new Promise((resolve) => this.#closed.push(resolve));
  }

  readonly #flush = (): void => {
    this.#touched = false;
    if (this.#ended) return;
    this.#events.writing();
    this.#write();
  };

  #write(): void {
    const bytes = this.out.take();
    if (bytes.length === 0) return this.out.recycle(bytes);
    this.#waiting += bytes.length;
    this.#socket?.write(bytes, () => {
      const wasFull = this.full;
      this.#waiting -= bytes.length;
      this.out.recycle(bytes);
      if (wasFull && !this.full && !this.#ended) this.#events.room();
    });
  }
}
