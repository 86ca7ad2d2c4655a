import { Code, codeName, type CodeName } from "./wire/codes.js";

/** What went wrong, as a name to branch on: those of relay.md 7.1, and those of what this side finds by itself. */
export type ErrorCode = CodeName | "closed" | "no-node" | "protocol";

/** The base of all errors of this package. `code` and the class say the same. */
export class IrisError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.name = new.target.name;
  }
}

/** This side closed the connection or the tunnel, or the other side closed the tunnel. */
export class ClosedError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("closed", message, options); }
}

/** The node is leaving and did not take the operation; it was not executed. */
export class ClosingError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("closing", message, options); }
}

/** The time was over; the request may or may not have been executed. */
export class TimeoutError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("timeout", message, options); }
}

/** The AbortSignal was aborted, `cause` is its reason; the request may or may not have been executed. */
export class CancelledError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("cancelled", message, options); }
}

/** Nobody is registered under the name. */
export class NoServiceError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("no-service", message, options); }
}

/** No member of the cluster, or not the node, or not this connection would take it; it was not executed. */
export class OverloadedError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("overloaded", message, options); }
}

/** The node or the member is gone; the request may or may not have been executed. */
export class LostError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("lost", message, options); }
}

/** A service's own error: `message` is the text that its handler gave, and may be empty. */
export class RemoteError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("failed", message, options); }
}

/** The operation breaks a rule, such as an empty name; it was not executed. */
export class InvalidError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("invalid", message, options); }
}

/** A payload, headers or a name exceed a limit of the node; nothing was sent. */
export class TooLargeError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("too-large", message, options); }
}

/** Nothing listens at the port, or nothing does any more and the connection was given up. */
export class NoNodeError extends IrisError {
  constructor(message: string, options?: ErrorOptions) { super("no-node", message, options); }
}

/** The node does not let this program attach: `code` says why, relay.md 2.7. */
export class RefusedError extends IrisError {
  /** Whether to try again later makes sense, relay.md 2.7. */
  get temporary(): boolean { return this.code === "limit" || this.code === "not-ready"; }
}

/** The node sent what the relay protocol does not allow; `bye` is the code of the bye that it gets, relay.md 6.4. */
export class ProtocolError extends IrisError {
  readonly bye: number;
  constructor(message: string, bye: number = Code.malformed, options?: ErrorOptions) {
    super("protocol", message, options);
    this.bye = bye;
  }
}

/** The error of an operation that ended with a code other than ok, relay.md 7. what is what was attempted. */
export function outcomeError(what: string, code: number, text: string): IrisError {
  const message = text === "" ? what : `${what}: ${text}`;
  const say = (sentence: string) => (text === "" ? `${what}: ${sentence}` : message);
  const name = codeName(code);
  switch (name) {
    case "timeout": return new TimeoutError(say("timed out"));
    case "no-service": return new NoServiceError(say("no such service"));
    case "overloaded": return new OverloadedError(say("overloaded"));
    case "lost": return new LostError(say("the service was lost"));
    case "failed": return new RemoteError(text);
    case "cancelled": return new CancelledError(say("cancelled"));
    case "closing": return new ClosingError(say("the node is leaving"));
    case "invalid": return new InvalidError(say("invalid"));
    default: return new ProtocolError(`${what}: the node answered with the code ${code}`);
  }
}
