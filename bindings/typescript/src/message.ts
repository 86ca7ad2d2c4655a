import { InvalidError, TooLargeError } from "./errors.js";
import type { Headers, Limits } from "./wire/frame.js";

/** What a message carries: bytes, which are not changed and must not be until the operation ends, or text as UTF-8. */
export type Payload = Uint8Array | string;

/** A reply to a request. */
export interface Reply {
  /** May be empty. The receiver's to keep. */
  readonly payload: Buffer;
  readonly headers: Headers;
}

/** A broadcast to the cluster, relay.md 8, or an event of a topic, 9. */
export interface Message {
  /** May be empty. The receiver's to keep. */
  readonly payload: Buffer;
  readonly headers: Headers;
}

/** An event of a topic, relay.md 9.2. */
export interface Event extends Message {
  readonly topic: string;
}

const nothing = Buffer.alloc(0);

/** The bytes of a payload. */
export function bytesOf(payload: Payload | undefined): Uint8Array {
  if (payload === undefined) return nothing;
  return typeof payload === "string" ? Buffer.from(payload) : payload;
}

/** Checks headers before they are encoded: at most 64 strings, relay.md 5.3, more would be malformed. */
export function checkHeaders(what: string, headers: Headers | undefined): void {
  if (headers === undefined) return;
  const values = Object.values(headers);
  if (values.length > 64) throw new InvalidError(`${what}: more than 64 headers`);
  if (values.some((value) => typeof value !== "string")) throw new InvalidError(`${what}: a header is no string`);
}

/** Checks the name of a cluster or topic, relay.md 5.1, 9.1. */
export function checkName(what: string, name: string): void {
  if (typeof name !== "string" || name === "") throw new InvalidError(`${what}: the name is empty`);
}

/** Checks a message against the node's limits, relay.md 4.1. */
export function checkSizes(what: string, limits: Limits, name: string, headers: Uint8Array, payload: Uint8Array): void {
  const excess = (limit: keyof Limits): TooLargeError =>
    new TooLargeError(`${what}: more than the limit of ${limits[limit]} bytes for ${limit}`);
  if (payload.length > limits.payload) throw excess("payload");
  if (headers.length > limits.headers) throw excess("headers");
  if (name.length * 3 > limits.name && Buffer.byteLength(name) > limits.name) throw excess("name");
}
