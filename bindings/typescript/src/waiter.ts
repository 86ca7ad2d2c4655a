import { CancelledError, InvalidError, TimeoutError } from "./errors.js";
import { NO_LIMIT } from "./wire/codes.js";

/** How long an operation may take. */
export interface WaitOptions {
  /** Milliseconds, from now on, until the operation ends with a TimeoutError. Absent: no limit. */
  timeout?: number | undefined;
  /** When it is aborted the operation ends with a CancelledError, or, by an AbortSignal.timeout, with a TimeoutError. */
  signal?: AbortSignal | undefined;
}

const MOST_TIMER = 0x7fff_ffff; // Node's timers know no more

/**
 * Waiter is one operation that somebody waits for: it ends exactly once, with a value or an error, at the latest when
 * its time is over or its signal aborted. Then `abandon`, if set, is called to undo what was begun.
 */
export class Waiter<T> {
  /** What was attempted, for messages. */
  readonly what: string;
  /** Called when the time is over or, signalled, the signal aborted: this is settled then. */
  abandon: ((signalled: boolean) => void) | undefined;
  settled = false;
  readonly #resolve: (value: T) => void;
  readonly #reject: (err: Error) => void;
  readonly #deadline: number;
  readonly #timer: NodeJS.Timeout | undefined;
  readonly #signal: AbortSignal | undefined;

  constructor(what: string, resolve: (value: T) => void, reject: (err: Error) => void, options: WaitOptions | undefined) {
    this.what = what;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#deadline = Infinity;
    const timeout = options?.timeout;
    if (timeout !== undefined && timeout !== Infinity) {
      if (!(timeout >= 0)) throw new InvalidError(`${what}: the timeout ${timeout} is no time`);
      this.#deadline = performance.now() + timeout;
      if (timeout === 0) this.#end(new TimeoutError(`${what}: timed out`), false);
      else if (timeout <= MOST_TIMER) this.#timer = setTimeout(this.#expire, timeout);
    }
    const signal = options?.signal;
    if (signal && !this.settled) {
      this.#signal = signal;
      if (signal.aborted) this.#aborted();
      else signal.addEventListener("abort", this.#aborted);
    }
  }

  /** The time that is left, as a budget of relay.md 5.2. */
  budget(): number {
    if (this.#deadline === Infinity) return NO_LIMIT;
    return Math.min(NO_LIMIT - 1, Math.max(1, Math.ceil(this.#deadline - performance.now())));
  }

  resolve(value: T): void {
    if (this.settled) return;
    this.#settle();
    this.#resolve(value);
  }

  reject(err: Error): void {
    if (this.settled) return;
    this.#settle();
    this.#reject(err);
  }

  #settle(): void {
    this.settled = true;
    if (this.#timer) clearTimeout(this.#timer);
    this.#signal?.removeEventListener("abort", this.#aborted);
  }

  readonly #expire = (): void => this.#end(new TimeoutError(`${this.what}: timed out`), false);

  readonly #aborted = (): void => {
    const cause: unknown = this.#signal!.reason;
    const timedOut = cause instanceof Error && cause.name === "TimeoutError";
    this.#end(timedOut ? new TimeoutError(`${this.what}: timed out`, { cause }) : new CancelledError(`${this.what}: cancelled`, { cause }), true);
  };

  #end(err: Error, signalled: boolean): void {
    if (this.settled) return;
    this.#settle();
    this.abandon?.(signalled);
    this.#reject(err);
  }
}

/** Runs start with a new Waiter and returns the promise of its end; what start throws is its error. */
export function waitFor<T>(what: string, options: WaitOptions | undefined, start: (waiter: Waiter<T>) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const waiter = new Waiter<T>(what, resolve, reject, options);
    if (waiter.settled) return;
    try {
      start(waiter);
    } catch (err) {
      waiter.reject(err as Error);
    }
  });
}
