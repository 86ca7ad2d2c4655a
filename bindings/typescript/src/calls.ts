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

/** Counts what was dropped for want of room, and tells it once a minute. */
export class Drops {
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

  add(): void {
    this.#count++;
    if (performance.now() - this.#told < 60_000) return;
    this.#told = performance.now();
    this.#log.warn(this.#message, { ...this.#fields, dropped: this.#count });
    this.#count = 0;
  }
}
