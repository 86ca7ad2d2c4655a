import { NO_LIMIT } from "./wire/codes.js";
import type { Headers, RequestFrame } from "./wire/frame.js";

/** A request that a service was given. */
export class Request {
  /** The cluster that was asked. */
  readonly cluster: string;
  /** May be empty. The handler's to keep. */
  readonly payload: Buffer;
  readonly headers: Headers;
  /** When the time of the request is over, in ms of performance.now(); Infinity: never. */
  readonly deadline: number;
  #abort: AbortController | undefined;
  #timer: NodeJS.Timeout | undefined;
  #ended: Error | undefined;

  /** @internal */
  constructor(frame: RequestFrame) {
    this.cluster = frame.cluster;
    this.payload = frame.payload;
    this.headers = frame.headers;
    this.deadline = frame.budget === NO_LIMIT ? Infinity : performance.now() + frame.budget;
  }

  /** Milliseconds that are left for the reply, at least 0; Infinity: no limit. Relay.md 5.2. */
  get timeLeft(): number { return Math.max(0, this.deadline - performance.now()); }

  /** Aborts when the requester gives up, the time is over, or the node is lost, unless the handler has returned. */
  get signal(): AbortSignal {
    if (this.#abort === undefined) {
      this.#abort = new AbortController();
      if (this.#ended) this.#abort.abort(this.#ended);
      else if (this.deadline !== Infinity && this.timeLeft < 0x7fff_ffff) {
        this.#timer = setTimeout(() => this.end(new Error("the time of the request is over")), this.timeLeft);
      }
    }
    return this.#abort.signal;
  }

  /** @internal Tells the handler to stop. */
  end(reason: Error): void {
    this.#ended ??= reason;
    clearTimeout(this.#timer);
    this.#abort?.abort(reason);
  }

  /** @internal The handler has returned. */
  returned(): void { clearTimeout(this.#timer); }
}
