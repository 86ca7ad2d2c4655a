import { ProtocolError } from "../errors.js";
import type { Headers, Id } from "./frame.js";

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

const SHORT = 64;

/** Headers of a message that has none; shared, and frozen therefore. */
export const noHeaders: Headers = Object.freeze(Object.create(null) as Record<string, string>);

const malformed = (text: string): ProtocolError => new ProtocolError(text);

/**
 * Reader reads MessagePack values from the content of one frame. Every length is checked against what is left before
 * anything is made of it (relay.md 3.4); what is wrong throws a ProtocolError of `malformed`.
 */
export class Reader {
  #buf: Buffer = Buffer.alloc(0);
  #pos = 0;
  #end = 0;
  #owned = false;
  #last = ""; // the last short string, of the bytes behind: messages come to the same name again and again
  readonly #lastBytes = Buffer.alloc(SHORT);
  #lastSize = 0;

  /** Reads from buf[start:end] next. owned: buf belongs to this frame alone, so payloads may be views of it. */
  reset(buf: Buffer, start: number, end: number, owned: boolean): void {
    this.#buf = buf;
    this.#pos = start;
    this.#end = end;
    this.#owned = owned;
  }

  /** Bytes that are left. */
  get left(): number { return this.#end - this.#pos; }

  /** The count of an array's elements, each of which takes at least a byte. */
  array(): number {
    const b = this.#byte();
    let n: number;
    if (b >= 0x90 && b <= 0x9f) n = b & 0x0f;
    else if (b === 0xdc) n = this.#be(2);
    else if (b === 0xdd) n = this.#be(4);
    else throw malformed("not an array");
    return this.#count(n, 1);
  }

  /** The count of a map's pairs. */
  map(): number {
    const b = this.#byte();
    let n: number;
    if (b >= 0x80 && b <= 0x8f) n = b & 0x0f;
    else if (b === 0xde) n = this.#be(2);
    else if (b === 0xdf) n = this.#be(4);
    else throw malformed("not a map");
    return this.#count(n, 2);
  }

  /** An integer of at most 64 bits, not negative, in any width, relay.md 3.3. */
  id(): Id {
    const b = this.#byte();
    if (b < 0x80) return b;
    switch (b) {
      case 0xcc: return this.#be(1);
      case 0xcd: return this.#be(2);
      case 0xce: return this.#be(4);
      case 0xcf: return this.#wide(this.#be(4), this.#be(4));
      case 0xd0: return this.#positive(this.#be(1), 0x80);
      case 0xd1: return this.#positive(this.#be(2), 0x8000);
      case 0xd2: return this.#positive(this.#be(4), 0x8000_0000);
      case 0xd3: return this.#wide(this.#positive(this.#be(4), 0x8000_0000), this.#be(4));
    }
    throw malformed(b >= 0xe0 ? "a negative integer" : "not an integer");
  }

  /** An integer of at most 32 bits. */
  u32(): number {
    const v = this.id();
    if (typeof v !== "number" || v > 0xffff_ffff) throw malformed("an integer beyond 32 bits");
    return v;
  }

  /** A code, relay.md 7.1. */
  code(): number {
    const v = this.u32();
    if (v > 255) throw malformed("a code beyond 255");
    return v;
  }

  /** A string of UTF-8. */
  str(): string {
    const b = this.#byte();
    let n: number;
    if (b >= 0xa0 && b <= 0xbf) n = b & 0x1f;
    else if (b === 0xd9) n = this.#be(1);
    else if (b === 0xda) n = this.#be(2);
    else if (b === 0xdb) n = this.#be(4);
    else throw malformed("not a string");
    return n === 0 ? "" : this.#utf8(this.#take(n), n);
  }

  /** A payload. The caller's to keep. */
  bin(): Buffer {
    const b = this.#byte();
    let n: number;
    if (b === 0xc4) n = this.#be(1);
    else if (b === 0xc5) n = this.#be(2);
    else if (b === 0xc6) n = this.#be(4);
    else throw malformed("a payload that is no bin");
    const start = this.#take(n);
    if (this.#owned) return this.#buf.subarray(start, start + n);
    const copy = Buffer.allocUnsafe(n);
    this.#buf.copy(copy, 0, start, start + n);
    return copy;
  }

  /** At most 64 strings by strings, the last of a name counts, relay.md 5.3. */
  headers(): Headers {
    const n = this.map();
    if (n === 0) return noHeaders;
    if (n > 64) throw malformed("more than 64 entries");
    const headers = Object.create(null) as Record<string, string>;
    for (let i = 0; i < n; i++) {
      const name = this.str();
      headers[name] = this.str();
    }
    return headers;
  }

  /** At most 64 strings, relay.md 2.4. */
  strings(): string[] {
    const n = this.array();
    if (n > 64) throw malformed("more than 64 entries");
    return Array.from({ length: n }, () => this.str());
  }

  /** Passes over a further field of any type, at most 8 values deep, relay.md 3.5. */
  skip(level = 1): void {
    if (level > 8) throw malformed("a field nests deeper than 8 values");
    const b = this.#buf[this.#pos];
    if (b === undefined || this.left === 0) throw malformed("a field is missing");
    if (b < 0x80 || b >= 0xe0) this.#pos++;
    else if (b <= 0x8f || b === 0xde || b === 0xdf) for (let n = 2 * this.map(); n > 0; n--) this.skip(level + 1);
    else if (b <= 0x9f || b === 0xdc || b === 0xdd) for (let n = this.array(); n > 0; n--) this.skip(level + 1);
    else if (b <= 0xbf || (b >= 0xd9 && b <= 0xdb)) this.str();
    else this.#skipScalar(this.#byte());
  }

  #skipScalar(b: number): void {
    switch (b) {
      case 0xc0: case 0xc2: case 0xc3: return;
      case 0xc4: case 0xc5: case 0xc6: this.#take(this.#be(1 << (b - 0xc4))); return;
      case 0xc7: case 0xc8: case 0xc9: this.#take(this.#be(1 << (b - 0xc7)) + 1); return;
      case 0xca: this.#take(4); return;
      case 0xcb: this.#take(8); return;
      case 0xcc: case 0xcd: case 0xce: case 0xcf: this.#take(1 << (b - 0xcc)); return;
      case 0xd0: case 0xd1: case 0xd2: case 0xd3: this.#take(1 << (b - 0xd0)); return;
      case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: this.#take((1 << (b - 0xd4)) + 1); return;
    }
    throw malformed("a byte that MessagePack never uses");
  }

  #byte(): number {
    if (this.#pos >= this.#end) throw malformed("a field is missing");
    return this.#buf[this.#pos++]!;
  }

  #be(n: number): number {
    let v = 0;
    for (let at = this.#take(n), end = at + n; at < end; at++) v = v * 256 + this.#buf[at]!;
    return v;
  }

  #take(n: number): number {
    const start = this.#pos;
    if (n > this.#end - start) throw malformed("a length exceeds the frame");
    this.#pos = start + n;
    return start;
  }

  #count(n: number, size: number): number {
    if (n * size > this.left) throw malformed("a count exceeds the frame");
    return n;
  }

  #positive(v: number, sign: number): number {
    if (v >= sign) throw malformed("a negative integer");
    return v;
  }

  #wide(high: number, low: number): Id {
    if (high <= 0x1f_ffff) return high * 0x1_0000_0000 + low;
    return (BigInt(high) << 32n) | BigInt(low);
  }

  #utf8(start: number, n: number): string {
    if (n === this.#lastSize && this.#isLast(start, n)) return this.#last;
    const s = this.#decode(start, n);
    if (n > SHORT) return s;
    this.#buf.copy(this.#lastBytes, 0, start, start + n);
    this.#lastSize = n;
    return (this.#last = s);
  }

  #isLast(start: number, n: number): boolean {
    for (let i = 0; i < n; i++) if (this.#buf[start + i] !== this.#lastBytes[i]) return false;
    return true;
  }

  #decode(start: number, n: number): string {
    // A string without U+FFFD was valid; only one with it can have been mended, and the slow decoder knows.
    const s = this.#buf.toString("utf8", start, start + n);
    if (!s.includes("\ufffd")) return s;
    try {
      return strict.decode(this.#buf.subarray(start, start + n));
    } catch {
      throw malformed("a string that is not UTF-8");
    }
  }
}
