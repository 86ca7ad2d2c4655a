import { decode } from "@msgpack/msgpack";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { ProtocolError } from "../src/errors.js";
import { appendFrame } from "../src/wire/append.js";
import { Code, Op, type CodeName } from "../src/wire/codes.js";
import { defaultLimits, type Frame } from "../src/wire/frame.js";
import { Framer } from "../src/wire/framer.js";
import { Output } from "../src/wire/output.js";
import { parseFrame } from "../src/wire/parse.js";
import { Reader } from "../src/wire/reader.js";
import { FakeNode, type FakeSession } from "./fakenode.js";
import { Connection } from "../src/connection.js";
import { Service } from "../src/service.js";
import { quiet } from "./quiet.js";

interface Valid { name: string; op: keyof typeof Op; canonical: boolean; hex: string; fields: Record<string, unknown> }
interface Broken { name: string; to: "node" | "client" | "both"; state: "opening" | "open"; role?: "client" | "service"; code: CodeName; hex: string }

const vectors = new URL("../../../../spec/vectors/", import.meta.url);
const load = <T>(file: string): T[] => JSON.parse(readFileSync(new URL(file, vectors), "utf8")) as T[];
const bytes = (hex: string): Buffer => Buffer.from(hex.replaceAll(" ", ""), "hex");

function decodeAll(stream: Buffer, chunk = stream.length, limit = defaultLimits.frame): Frame[] {
  const frames: Frame[] = [];
  const framer = new Framer(limit, (buf, start, end, owned) => {
    const reader = new Reader();
    reader.reset(buf, start, end, owned);
    frames.push(parseFrame(reader));
    return true;
  });
  for (let at = 0; at < stream.length; at += chunk) framer.push(stream.subarray(at, at + chunk));
  return frames;
}

/** The fields of a frame in the form of the vectors: what is 0, "" or empty is left out. */
function fieldsOf(frame: Frame): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(frame) as [string, unknown][]) {
    if (name === "op") continue;
    if (name === "id" || name === "token") { if (value !== 0) fields[name] = String(value); }
    else if (Buffer.isBuffer(value)) { if (value.length > 0) fields[name] = value.toString("hex"); }
    else if (typeof value === "object") { if (Object.keys(value!).length > 0) fields[name] = Array.isArray(value) ? value : { ...value }; }
    else if (value !== 0 && value !== "") fields[name] = value;
  }
  return fields;
}

const frames = load<Valid>("frames.json");

describe("frames.json", () => {
  for (const v of frames) {
    it(v.name, () => {
      const frame = decodeAll(bytes(v.hex))[0]!;
      assert.equal(frame.op, Op[v.op]);
      assert.deepEqual(fieldsOf(frame), v.fields);
      if (!v.canonical) return;
      const out = new Output();
      appendFrame(out, frame);
      assert.equal(out.take().toString("hex"), bytes(v.hex).toString("hex"));
    });
  }

  it("all of them, a byte at a time, in sevens, and in one segment", () => {
    const stream = Buffer.concat(frames.map((v) => bytes(v.hex)));
    const whole = decodeAll(stream);
    assert.equal(whole.length, frames.length);
    for (const chunk of [1, 7]) assert.deepEqual(decodeAll(stream, chunk), whole);
  });

  it("the library reads what is encoded", () => {
    for (const v of frames) {
      const out = new Output();
      appendFrame(out, decodeAll(bytes(v.hex))[0]!);
      const content = decode(out.take(), { useBigInt64: true }) as Uint8Array;
      const array = decode(content, { useBigInt64: true }) as unknown[];
      assert.equal(array[0], Op[v.op], v.name);
      if (v.fields["id"]) assert.equal(String(array[1]), v.fields["id"], v.name);
    }
  });
});

describe("malformed.json", () => {
  for (const v of load<Broken>("malformed.json")) {
    it(v.name, () => {
      const limit = v.state === "opening" ? 16_384 : defaultLimits.frame;
      for (const chunk of [1, 1_000]) {
        assert.throws(() => decodeAll(bytes(v.hex), chunk, limit), (err) => err instanceof ProtocolError && err.bye === Code[v.code]);
      }
    });
  }
});

describe("incomplete.json", () => {
  for (const v of load<{ name: string; hex: string }>("incomplete.json")) {
    it(v.name, () => assert.deepEqual(decodeAll(bytes(v.hex), 1), []));
  }
});

describe("what is wrong ends the connection with the bye that the vectors name", () => {
  const all = [...load<Broken>("malformed.json"), ...load<Broken>("misplaced.json")].filter((v) => v.to !== "node");
  for (const v of all) {
    it(`${v.state}: ${v.name}`, async () => {
      await using node = await FakeNode.start();
      const service = v.role === "service";
      const options = { reconnect: 0, logger: quiet };
      const connection = service ? undefined : new Connection(node.port, options);
      const registered = service ? new Service(node.port, "upper", {}, options) : undefined;
      const attached = (connection ?? registered!.connection).attachment.open(5_000, undefined);
      attached.catch(() => {});
      const session: FakeSession = await node.session();
      await session.expect(Op.hello);
      if (v.state === "open") session.welcome();
      session.raw(bytes(v.hex));
      const bye = await session.expect(Op.bye);
      assert.equal(bye.code, Code[v.code], bye.text);
      if (v.state === "opening") await assert.rejects(attached, ProtocolError);
      else await attached;
      await session.closed;
    });
  }

  for (const v of load<{ name: string; hex: string }>("incomplete.json")) {
    it(`no bye: ${v.name}`, async () => {
      await using node = await FakeNode.start();
      const connection = new Connection(node.port, { reconnect: 0, logger: quiet });
      const attached = connection.attachment.open(5_000, undefined);
      const session = await node.session();
      await session.expect(Op.hello);
      session.welcome();
      await attached;
      session.raw(bytes(v.hex));
      session.end();
      await session.closed;
      assert.deepEqual(session.left().filter((f) => f.op !== Op.credit), []);
      assert.match((await connection.closed)!.message, /given up/);
    });
  }
});
