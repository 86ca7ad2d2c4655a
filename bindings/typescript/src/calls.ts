import type { Logger } from "./logger.js";

/** Calls a handler; what it throws goes to fail. A Promise is returned when the handler returned one, else nothing. */
export function callHandler<R>(call: () => R | PromiseLike<R>, done: (result: R) => void, fail: (err: unknown) => void): void | Promise<void> {
  let result: R | PromiseLike<R>;
  try {
    result = call();
  } catch (err) {
    return fail(err);
  }
  if (isPromise(result)) return Promise.resolve(result).then(done, fail);
  return done(result);
}

function isPromise<R>(value: R | PromiseLike<R>): value is PromiseLike<R> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

/** The text of what a handler has thrown. */
export function textOf(err: unknown): string {
  return err instanceof Error ? err.message : String(err);
}

/** Counts what goes wrong with messages, and tells it once a minute at most. */
export class Tally {
  readonly #log: Logger;
  readonly #message: string;
  readonly #fields: Record<string, unknown>;
  #count = 0;
  #told = -Infinity;

  constructor(log: Logger, message: string, fields: Record<string, unknown>) {
    this.#log = log;
    this.#message = message;
    this.#fields = fields;
  }

  /** Counts one more; err: what was thrown, if anything. */
  add(err?: unknown): void {
    this.#count++;
    if (performance.now() - this.#told < 60_000) return;
    this.#told = performance.now();
    this.#log.warn(this.#message, { ...this.#fields, count: this.#count, ...(err === undefined ? {} : { err: textOf(err) }) });
    this.#count = 0;
  }
}
