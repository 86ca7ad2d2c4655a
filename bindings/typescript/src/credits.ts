import { ProtocolError } from "./errors.js";
import { appendNumbers } from "./wire/append.js";
import { Code, MOST, Op } from "./wire/codes.js";
import type { Output } from "./wire/output.js";

/**
 * Credits keeps what the node may still give of each kind (relay.md 5.5) as great as the room there is for it: after
 * every message that was dealt with, and never greater.
 */
export class Credits {
  readonly #granted = [0, 0, 0];
  readonly #room: (kind: number) => number;

  /** room says how many messages of a kind there is room for now. */
  constructor(room: (kind: number) => number) { this.#room = room; }

  /** A message of the kind has come. */
  use(kind: number): void {
    if (this.#granted[kind]! <= 0) throw new ProtocolError("a message without credit", Code.unexpected);
    this.#granted[kind]!--;
  }

  /** Appends what is to be granted. */
  append(out: Output): void {
    for (let kind = 0; kind < 3; kind++) {
      const n = Math.min(MOST, this.#room(kind)) - this.#granted[kind]!;
      if (n <= 0) continue;
      this.#granted[kind]! += n;
      appendNumbers(out, Op.credit, kind, n);
    }
  }
}
