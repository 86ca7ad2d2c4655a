import { ClosedError, ProtocolError, outcomeError, type IrisError } from "./errors.js";
import { Fifo } from "./fifo.js";
import { bytesOf, type Payload } from "./message.js";
import type { Tunnels } from "./tunnels.js";
import { Waiter, waitFor, type WaitOptions } from "./waiter.js";
import { appendCode, appendData, appendNumbers, appendOpened } from "./wire/append.js";
import { CHUNK_COST, Code, MOST, Op } from "./wire/codes.js";
import type { DataFrame, Headers, Id, OpenFrame, TunnelFrame } from "./wire/frame.js";
import { cutText, encodeHeaders } from "./wire/output.js";
import { noHeaders } from "./wire/reader.js";

interface Sending {
  readonly waiter: Waiter<void>;
  readonly bytes: Uint8Array;
  sent: number; // bytes
  begun: boolean;
}

/** How long close waits for the other side, in ms. */
const PATIENCE = 10_000;

/**
 * Tunnel is an ordered stream of messages, both ways, between this program and one member of a cluster (relay.md 10). A
 * message may be of any size: it travels in chunks, and only as fast as the other side receives. What was received is
 * always a prefix of what was sent. Messages that are sent at the same time do not mix.
 */
export class Tunnel implements AsyncIterable<Buffer> {
  /** The cluster that the tunnel was opened to. */
  readonly cluster: string;
  /** Resolves when the tunnel has ended, however: both sides have finished, or either has broken it off. */
  readonly ended: Promise<void>;
  /** @internal */
  readonly id: Id;
  readonly #table: Tunnels;
  #headers: Headers = noHeaders;
  readonly #sends = new Fifo<Sending>();
  readonly #chunks = new Fifo<DataFrame>();
  readonly #receivers = new Fifo<Waiter<Buffer | null>>();
  readonly #finishers: (() => void)[] = []; // wait for the finish of this side
  readonly #enders: (() => void)[] = []; // wait for the end
  #parts: Buffer[] = []; // of the message that is being received
  #asking: Waiter<Tunnel> | undefined;
  #state: "asking" | "offered" | "open" | "ended";
  #allowance = 0; // bytes that this side may send
  #window = 0; // what it was at first
  #unconfirmed = 0; // bytes sent that the other side has not allowed again
  #allowed = 0; // bytes that the other side may send
  #owed = 0; // bytes to allow again
  #finishing = false;
  #sentFinish = false;
  #gotFinish = false;
  #withinMessage = false;
  #discarding = false;
  #failure: ((what: string) => IrisError) | undefined;
  #closing: Promise<void> | undefined;

  /** @internal from: who waits for the answer to the open, or the open of the other side. */
  constructor(table: Tunnels, id: Id, cluster: string, from: Waiter<Tunnel> | OpenFrame) {
    this.#table = table;
    this.id = id;
    this.cluster = cluster;
    this.ended = new Promise((resolve) => this.#enders.push(resolve));
    if (from instanceof Waiter) {
      this.#state = "asking";
      this.#allowed = table.window;
      this.#asking = from;
      from.abandon = () => this.#abort(Code.ok, "", (what) => new ClosedError(`${what}: given up`));
    } else {
      this.#state = "offered";
      this.#headers = from.headers;
      this.#allowance = this.#window = from.window;
    }
  }

  /** Those of the other side: of its open or of its acceptance. */
  get headers(): Headers { return this.#headers; }

  /**
   * Sends a message and resolves when it is handed to the node; it waits while the other side does not receive. One that
   * is given up before anything of it was sent was not sent; later, the tunnel is aborted, for the rest cannot be left
   * out. The error is a ClosedError after this side has finished or the other has closed, a RemoteError after an abort
   * with a reason, LostError, TimeoutError or CancelledError.
   */
  send(message: Payload, options?: WaitOptions): Promise<void> {
    return waitFor<void>(this.#what("send"), options, (waiter) => {
      if (this.#failure) throw this.#failure(waiter.what);
      if (this.#finishing) throw new ClosedError(`${waiter.what}: this side has finished`);
      const sending: Sending = { waiter, bytes: bytesOf(message), sent: 0, begun: false };
      waiter.abandon = () => this.#withdraw(sending);
      this.#sends.push(sending);
      this.pump();
    });
  }

  /**
   * Receives the next message, which is the caller's; null when the other side has finished. What came before the tunnel
   * ended comes first. The errors are those of send. When it is given up, the next recv goes on.
   */
  recv(options?: WaitOptions): Promise<Buffer | null> {
    return waitFor<Buffer | null>(this.#what("recv"), options, (waiter) => {
      if (this.#discarding) throw this.#failure?.(waiter.what) ?? new ClosedError(`${waiter.what}: the tunnel was closed`);
      waiter.abandon = () => this.#receivers.remove(waiter);
      this.#receivers.push(waiter);
      this.#deliver();
    });
  }

  /** Messages until the other side has finished. */
  async *[Symbol.asyncIterator](): AsyncGenerator<Buffer, void, undefined> {
    for (let message = await this.recv(); message !== null; message = await this.recv()) yield message;
  }

  /** Tells the other side that nothing more is sent, behind what is being sent; receiving goes on. Idempotent. */
  async closeSend(): Promise<void> {
    this.#finishing = true;
    this.pump();
    if (!this.#sentFinish && !this.#failure) await new Promise<void>((resolve) => this.#finishers.push(resolve));
    const failure = this.#failure?.(this.#what("finish"));
    if (failure && !this.#sentFinish) throw failure;
  }

  /**
   * Ends the tunnel in good order: what was sent is delivered, what still comes is discarded. It resolves when the other
   * side has finished too, or has taken everything and goes on sending nevertheless: then its next send fails. After
   * `timeout` ms (10,000) the tunnel is aborted, a TimeoutError; that of a tunnel that broke off says why. Idempotent.
   */
  close(options?: WaitOptions): Promise<void> {
    return (this.#closing ??= this.#close({ timeout: PATIENCE, ...options }));
  }

  [Symbol.asyncDispose](): Promise<void> { return this.close(); }

  /**
   * Breaks the tunnel off at once, on both sides; what is on its way may be lost. The other side gets a RemoteError of
   * the reason, or without one a ClosedError. Idempotent.
   */
  abort(reason = ""): void {
    this.#discard();
    this.#abort(reason === "" ? Code.ok : Code.failed, reason, (what) => new ClosedError(`${what}: the tunnel was aborted`));
  }

  /** @internal Accepts an offered tunnel; false when it has ended meanwhile. */
  accept(headers: Headers | undefined): boolean {
    if (this.#state !== "offered") return false;
    this.#state = "open";
    this.#allowed = this.#table.window;
    appendOpened(this.#channel.out, this.id, this.#allowed, encodeHeaders(headers));
    this.#channel.touch();
    return true;
  }

  /** @internal Refuses an offered tunnel. */
  refuse(code: number, text: string): void {
    this.#abort(code, text, (what) => new ClosedError(`${what}: refused`));
  }

  /** @internal */
  frame(f: TunnelFrame): void {
    if (f.op === Op.abort) return this.#aborted(f.code, f.text);
    if (f.op === Op.opened) return this.#opened(f.window, f.headers);
    if (this.#state !== "open") throw unexpected("a frame of a tunnel that is not open"); // relay.md 10.2
    switch (f.op) {
      case Op.data: return this.#data(f);
      case Op.allow: return this.#allow(f.n);
      case Op.finish: return this.#finish();
    }
  }

  /** @internal Ends the tunnel without a word to the other side. */
  fail(failure: (what: string) => IrisError): void {
    if (this.#state === "ended") return;
    this.#failure = failure;
    this.#asking?.reject(failure(this.#asking.what));
    this.#asking = undefined;
    this.#ended();
  }

  /** @internal Sends what may be sent now. */
  pump(): void {
    if (this.#state !== "open") return;
    const { channel, limits } = this.#table.session;
    for (let next = this.#sends.peek(); next !== undefined; next = this.#sends.peek()) {
      const rest = next.bytes.length - next.sent;
      const piece = this.#fitting(Math.min(rest, limits.chunk));
      if (piece < 0) return;
      if (channel.full) return this.#table.wait(this);
      appendData(channel.out, this.id, piece === rest ? 1 : 0, next.bytes.subarray(next.sent, next.sent + piece));
      channel.touch();
      this.#allowance -= piece + CHUNK_COST;
      this.#unconfirmed += piece + CHUNK_COST;
      next.sent += piece;
      next.begun = true;
      if (piece < rest) continue;
      this.#sends.shift();
      next.waiter.resolve();
    }
    if (this.#finishing && !this.#sentFinish) this.#sendFinish();
  }

  /** @internal */
  appendAllow(): void {
    if (this.#owed === 0 || this.#state !== "open") return;
    appendNumbers(this.#channel.out, Op.allow, this.id, this.#owed);
    this.#allowed += this.#owed;
    this.#owed = 0;
  }

  get #channel() { return this.#table.session.channel; }

  #what(verb: string): string { return `${verb} in a tunnel to "${this.cluster}"`; }

  // How much of a chunk may be sent: all of it or, where the window is too small for that, at least half the window. -1:
  // nothing yet.
  #fitting(chunk: number): number {
    const fits = this.#allowance - CHUNK_COST;
    if (chunk <= fits) return chunk;
    const least = Math.max(1, (this.#window >> 1) - CHUNK_COST);
    return fits >= least ? fits : -1;
  }

  #opened(window: number, headers: Headers): void {
    if (this.#state !== "asking") throw unexpected("an opened for a tunnel that was not asked for"); // relay.md 10.2
    if (window > MOST) throw unexpected("a window beyond 2^31-1");
    this.#state = "open";
    this.#allowance = this.#window = window;
    this.#headers = headers;
    this.#asking?.resolve(this);
    this.#asking = undefined;
  }

  #data(f: DataFrame): void {
    const cost = f.payload.length + CHUNK_COST;
    if (this.#gotFinish) throw unexpected("data behind a finish"); // relay.md 10.6
    if (cost > this.#allowed) throw unexpected("data beyond the allowance"); // relay.md 10.5
    this.#allowed -= cost;
    this.#withinMessage = f.last === 0;
    if (!this.#discarding) {
      this.#chunks.push(f);
      return this.#deliver();
    }
    if (this.#sentFinish && this.#unconfirmed <= 0) {
      return this.#abort(Code.ok, "", (what) => new ClosedError(`${what}: the tunnel was closed`));
    }
    this.#dealtWith(cost);
  }

  #allow(n: number): void {
    if (this.#allowance + n > MOST) throw unexpected("an allowance beyond 2^31-1"); // relay.md 10.5
    this.#allowance += n;
    this.#unconfirmed -= n;
    this.pump();
  }

  #finish(): void {
    if (this.#gotFinish) throw unexpected("a second finish");
    this.#gotFinish = true;
    if (this.#withinMessage && !this.#discarding) { // relay.md 10.6
      return this.#abort(Code.failed, "finished within a message", (what) => new ProtocolError(`${what}: the other side finished within a message`));
    }
    if (this.#sentFinish) this.#ended();
    this.#deliver();
  }

  #aborted(code: number, text: string): void {
    this.fail((what) => (code === Code.ok ? new ClosedError(`${what}: the other side closed the tunnel`) : outcomeError(what, code, text)));
  }

  #sendFinish(): void {
    this.#sentFinish = true;
    appendNumbers(this.#channel.out, Op.finish, this.id);
    this.#channel.touch();
    for (const tell of this.#finishers.splice(0)) tell();
    if (this.#gotFinish) this.#ended();
  }

  #dealtWith(cost: number): void {
    if (this.#state !== "open") return;
    this.#owed += cost;
    this.#table.owes(this);
  }

  #deliver(): void {
    while (this.#receivers.length > 0) {
      const chunk = this.#chunks.shift();
      if (chunk === undefined) return this.#deliverEnd();
      this.#dealtWith(chunk.payload.length + CHUNK_COST);
      this.#parts.push(chunk.payload);
      if (chunk.last === 0) continue;
      const message = this.#parts.length === 1 ? chunk.payload : Buffer.concat(this.#parts);
      this.#parts = [];
      this.#receivers.shift()!.resolve(message);
    }
  }

  #deliverEnd(): void {
    if (!this.#gotFinish && !this.#failure) return;
    for (const waiter of this.#receivers.clear()) {
      if (this.#failure) waiter.reject(this.#failure(waiter.what));
      else waiter.resolve(null);
    }
  }

  #withdraw(sending: Sending): void {
    if (sending.begun) return this.abort();
    this.#sends.remove(sending);
    queueMicrotask(() => this.pump());
  }

  async #close(options: WaitOptions): Promise<void> {
    const what = this.#what("close");
    this.#discard();
    this.#finishing = true;
    this.pump();
    await waitFor<void>(what, options, (waiter) => {
      waiter.abandon = () => this.abort();
      if (this.#state === "ended") waiter.resolve();
      else this.#enders.push(() => waiter.resolve());
    });
    const failure = this.#failure?.(what);
    if (failure && !(failure instanceof ClosedError)) throw failure;
  }

  // Nothing more is received: what waits is dealt with.
  #discard(): void {
    if (this.#discarding || (this.#gotFinish && this.#chunks.length === 0)) return; // all has been received: recv goes on to say so
    this.#discarding = true;
    this.#parts = [];
    for (const chunk of this.#chunks.clear()) this.#dealtWith(chunk.payload.length + CHUNK_COST);
    for (const waiter of this.#receivers.clear()) {
      waiter.reject(this.#failure?.(waiter.what) ?? new ClosedError(`${waiter.what}: the tunnel was closed`));
    }
  }

  #abort(code: number, text: string, failure: (what: string) => IrisError): void {
    if (this.#state === "ended") return;
    appendCode(this.#channel.out, Op.abort, [this.id], code, cutText(text));
    this.#channel.touch();
    this.fail(failure);
  }

  #ended(): void {
    this.#state = "ended";
    this.#table.remove(this);
    for (const { waiter } of this.#sends.clear()) {
      waiter.reject(this.#failure?.(waiter.what) ?? new ClosedError(`${waiter.what}: the tunnel has ended`));
    }
    this.#deliver();
    for (const tell of [...this.#finishers.splice(0), ...this.#enders.splice(0)]) tell();
  }
}

function unexpected(text: string): ProtocolError { return new ProtocolError(text, Code.unexpected); }
