import { ProtocolError } from "../errors.js";
import { Code } from "./codes.js";

/** What gets the content of a frame: buf[start:end]. owned: buf belongs to this frame alone. False: no more of it. */
export type FrameSink = (buf: Buffer, start: number, end: number, owned: boolean) => boolean;

/**
 * Framer cuts a stream into frames, relay.md 3.1. A frame that lies within one chunk is handed on where it lies; one
 * that does not is gathered in memory of its own, at most twice as much as has arrived (4.5).
 */
export class Framer {
  /** Bytes that the content of a frame may have, relay.md 4.2. */
  limit: number;
  readonly #sink: FrameSink;
  #gathered: Buffer = Buffer.alloc(0);
  #fill = 0;
  #need = 0; // bytes of the frame being gathered: of its head, until that is complete

  constructor(limit: number, sink: FrameSink) {
    this.limit = limit;
    this.#sink = sink;
  }

  /** Takes the next bytes of the stream, not keeping them. Throws a ProtocolError of `malformed` or `too-large`. */
  push(chunk: Buffer): void {
    let pos = 0;
    while (pos < chunk.length) {
      if (this.#fill > 0) {
        pos += this.#gather(chunk, pos);
        if (this.#fill < this.#need) continue;
        const head = headSize(this.#gathered[0]!);
        this.#need = head + this.#size(this.#gathered, 0, head);
        if (this.#fill < this.#need) continue;
        const frame = this.#gathered;
        this.#fill = 0;
        if (!this.#sink(frame, head, this.#need, true)) return;
        continue;
      }
      const head = headSize(chunk[pos]!);
      const have = chunk.length - pos;
      this.#need = have < head ? head : head + this.#size(chunk, pos, head);
      if (have < this.#need) {
        this.#gathered = Buffer.allocUnsafeSlow(Math.min(this.#need, have * 2));
        pos += this.#gather(chunk, pos);
        continue;
      }
      const end = pos + this.#need;
      if (!this.#sink(chunk, pos + head, end, false)) return;
      pos = end;
    }
  }

  #gather(chunk: Buffer, pos: number): number {
    const n = Math.min(this.#need - this.#fill, chunk.length - pos);
    if (this.#fill + n > this.#gathered.length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(this.#need, (this.#fill + n) * 2));
      this.#gathered.copy(grown, 0, 0, this.#fill);
      this.#gathered = grown;
    }
    chunk.copy(this.#gathered, this.#fill, pos, pos + n);
    this.#fill += n;
    return n;
  }

  #size(buf: Buffer, at: number, head: number): number {
    const size = head === 2 ? buf[at + 1]! : head === 3 ? buf.readUInt16BE(at + 1) : buf.readUInt32BE(at + 1);
    if (size > this.limit) throw new ProtocolError(`a frame of ${size} bytes, the limit is ${this.limit}`, Code["too-large"]);
    return size;
  }
}

function headSize(first: number): number {
  switch (first) {
    case 0xc4: return 2;
    case 0xc5: return 3;
    case 0xc6: return 5;
  }
  throw new ProtocolError("a frame is no bin");
}
