import { ProtocolError } from "../errors.js";
import { Op } from "./codes.js";
import { defaultLimits, type Frame, type Limits } from "./frame.js";
import type { Reader } from "./reader.js";

/** The number of fields behind the op, by op, relay.md 3.2. */
const fieldsOf: readonly (number | undefined)[] = (() => {
  const table: (number | undefined)[] = [];
  const counts: Record<keyof typeof Op, number> = {
    hello: 6, welcome: 4, refuse: 2, ping: 1, pong: 1, credit: 2, drain: 0, drained: 0, leaving: 0, bye: 2, done: 3,
    request: 5, reply: 5, cancel: 1, broadcast: 4, publish: 4, subscribe: 2, unsubscribe: 2, event: 3, open: 5,
    opened: 3, data: 3, allow: 2, finish: 1, abort: 3,
  };
  for (const [name, n] of Object.entries(counts)) table[Op[name as keyof typeof Op]] = n;
  return table;
})();

/** Decodes the content of one frame, relay.md 3. A ProtocolError of `malformed` says what is wrong. */
export function parseFrame(r: Reader): Frame {
  const count = r.array();
  const op = r.u32();
  const fields = fieldsOf[op];
  if (fields === undefined) throw new ProtocolError(`the op ${op} is unknown`);
  if (count <= fields) throw new ProtocolError(`a field of the op ${op} is missing`);
  const frame = parseFields(op as Frame["op"], r);
  for (let more = count - 1 - fields; more > 0; more--) r.skip();
  if (r.left > 0) throw new ProtocolError("bytes follow the array");
  return frame;
}

function parseFields(op: Frame["op"], r: Reader): Frame {
  switch (op) {
    case Op.event: return { op, topic: r.str(), headers: r.headers(), payload: r.bin() };
    case Op.reply: return { op, id: r.id(), code: r.code(), text: r.str(), headers: r.headers(), payload: r.bin() };
    case Op.request: return { op, id: r.id(), cluster: r.str(), budget: r.u32(), headers: r.headers(), payload: r.bin() };
    case Op.data: return { op, id: r.id(), last: bit(r), payload: r.bin() };
    case Op.allow: return { op, id: r.id(), n: r.u32() };
    case Op.broadcast: return { op, id: r.id(), cluster: r.str(), headers: r.headers(), payload: r.bin() };
    case Op.publish: return { op, id: r.id(), topic: r.str(), headers: r.headers(), payload: r.bin() };
    case Op.done: case Op.abort: return { op, id: r.id(), code: r.code(), text: r.str() };
    case Op.cancel: case Op.finish: return { op, id: r.id() };
    case Op.subscribe: case Op.unsubscribe: return { op, id: r.id(), topic: r.str() };
    case Op.open: return { op, id: r.id(), cluster: r.str(), budget: r.u32(), window: r.u32(), headers: r.headers() };
    case Op.opened: return { op, id: r.id(), window: r.u32(), headers: r.headers() };
    case Op.ping: case Op.pong: return { op, token: r.id() };
    case Op.credit: return { op, kind: r.u32(), n: r.u32() };
    case Op.bye: case Op.refuse: return { op, code: r.code(), text: r.str() };
    case Op.drain: case Op.drained: case Op.leaving: return { op };
    case Op.welcome: return { op, version: r.u32(), limits: parseLimits(r), info: r.headers(), features: r.strings() };
    case Op.hello: return parseHello(r);
  }
}

function bit(r: Reader): number {
  const v = r.u32();
  if (v > 1) throw new ProtocolError(`last is ${v}`); // relay.md 10.4
  return v;
}

// relay.md 4.1: a limit that is missing or zero has its default, other names are ignored.
function parseLimits(r: Reader): Limits {
  const n = r.map();
  if (n > 64) throw new ProtocolError("more than 64 limits");
  const limits: Record<string, number> = { ...defaultLimits };
  for (let i = 0; i < n; i++) {
    const name = r.str();
    const value = r.u32();
    if (Object.hasOwn(defaultLimits, name)) limits[name] = value === 0 ? defaultLimits[name as keyof Limits] : value;
  }
  return limits as unknown as Limits;
}

// relay.md 2.1, 2.2
function parseHello(r: Reader): Frame {
  if (r.str() !== "iris") throw new ProtocolError("the magic is wrong");
  const min = r.u32();
  const max = r.u32();
  if (min > max) throw new ProtocolError("the lowest version exceeds the highest");
  return { op: Op.hello, min, max, cluster: r.str(), options: r.headers(), features: r.strings() };
}
