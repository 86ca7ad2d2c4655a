import { encode } from "@msgpack/msgpack";
import { Op } from "./codes.js";
import type { Frame, HelloFrame, Id, WelcomeFrame } from "./frame.js";
import { encodeHeaders, type Output } from "./output.js";

// One function per frame that a client sends. Headers are encoded before, with encodeHeaders, to be measured.

export function appendRequest(
  out: Output, id: Id, cluster: string, budget: number, headers: Uint8Array, payload: Uint8Array,
): void {
  out.begin(payload.length + headers.length + cluster.length, 6, Op.request);
  out.id(id);
  out.str(cluster);
  out.id(budget);
  out.raw(headers);
  out.bin(payload);
  out.end();
}

export function appendReply(
  out: Output, id: Id, code: number, text: string, headers: Uint8Array, payload: Uint8Array,
): void {
  out.begin(payload.length + headers.length + text.length, 6, Op.reply);
  out.id(id);
  out.id(code);
  out.str(text);
  out.raw(headers);
  out.bin(payload);
  out.end();
}

/** A broadcast to a cluster or a publish to a topic, relay.md 8.1 and 9.1. */
export function appendMessage(
  out: Output, op: typeof Op.broadcast | typeof Op.publish, id: Id, name: string, headers: Uint8Array, payload: Uint8Array,
): void {
  out.begin(payload.length + headers.length + name.length, 5, op);
  out.id(id);
  out.str(name);
  out.raw(headers);
  out.bin(payload);
  out.end();
}

export function appendTopic(out: Output, op: typeof Op.subscribe | typeof Op.unsubscribe, id: Id, topic: string): void {
  out.begin(topic.length, 3, op);
  out.id(id);
  out.str(topic);
  out.end();
}

export function appendOpen(
  out: Output, id: Id, cluster: string, budget: number, window: number, headers: Uint8Array,
): void {
  out.begin(headers.length + cluster.length, 6, Op.open);
  out.id(id);
  out.str(cluster);
  out.id(budget);
  out.id(window);
  out.raw(headers);
  out.end();
}

export function appendOpened(out: Output, id: Id, window: number, headers: Uint8Array): void {
  out.begin(headers.length, 4, Op.opened);
  out.id(id);
  out.id(window);
  out.raw(headers);
  out.end();
}

export function appendData(out: Output, id: Id, last: number, payload: Uint8Array): void {
  out.begin(payload.length, 4, Op.data);
  out.id(id);
  out.id(last);
  out.bin(payload);
  out.end();
}

/** A frame of nothing but integers: ping, pong, credit, drain, cancel, allow, finish. */
export function appendNumbers(out: Output, op: number, ...fields: Id[]): void {
  out.begin(0, fields.length + 1, op);
  for (const field of fields) out.id(field);
  out.end();
}

/** A frame that ends with a code and a text: bye, abort. The text obeys relay.md 5.6, see cutText. */
export function appendCode(out: Output, op: number, fields: readonly Id[], code: number, text: string): void {
  out.begin(text.length, fields.length + 3, op);
  for (const field of fields) out.id(field);
  out.id(code);
  out.str(text);
  out.end();
}

export function appendHello(out: Output, hello: Omit<HelloFrame, "op">): void {
  out.begin(hello.cluster.length, 7, Op.hello);
  out.str("iris");
  out.id(hello.min);
  out.id(hello.max);
  out.str(hello.cluster);
  out.raw(encodeHeaders(hello.options));
  out.raw(encode(hello.features));
  out.end();
}

function appendWelcome(out: Output, frame: WelcomeFrame): void {
  out.begin(128, 5, Op.welcome);
  out.id(frame.version);
  out.raw(encode(frame.limits, { sortKeys: true }));
  out.raw(encodeHeaders(frame.info));
  out.raw(encode(frame.features));
  out.end();
}

function appendEvent(out: Output, topic: string, headers: Uint8Array, payload: Uint8Array): void {
  out.begin(payload.length + headers.length + topic.length, 4, Op.event);
  out.str(topic);
  out.raw(headers);
  out.bin(payload);
  out.end();
}

/** Appends any frame. */
export function appendFrame(out: Output, f: Frame): void {
  switch (f.op) {
    case Op.hello: return appendHello(out, f);
    case Op.welcome: return appendWelcome(out, f);
    case Op.refuse: case Op.bye: return appendCode(out, f.op, [], f.code, f.text);
    case Op.done: case Op.abort: return appendCode(out, f.op, [f.id], f.code, f.text);
    case Op.ping: case Op.pong: return appendNumbers(out, f.op, f.token);
    case Op.credit: return appendNumbers(out, f.op, f.kind, f.n);
    case Op.drain: case Op.drained: case Op.leaving: return appendNumbers(out, f.op);
    case Op.cancel: case Op.finish: return appendNumbers(out, f.op, f.id);
    case Op.allow: return appendNumbers(out, f.op, f.id, f.n);
    case Op.request: return appendRequest(out, f.id, f.cluster, f.budget, encodeHeaders(f.headers), f.payload);
    case Op.reply: return appendReply(out, f.id, f.code, f.text, encodeHeaders(f.headers), f.payload);
    case Op.broadcast: return appendMessage(out, f.op, f.id, f.cluster, encodeHeaders(f.headers), f.payload);
    case Op.publish: return appendMessage(out, f.op, f.id, f.topic, encodeHeaders(f.headers), f.payload);
    case Op.subscribe: case Op.unsubscribe: return appendTopic(out, f.op, f.id, f.topic);
    case Op.event: return appendEvent(out, f.topic, encodeHeaders(f.headers), f.payload);
    case Op.open: return appendOpen(out, f.id, f.cluster, f.budget, f.window, encodeHeaders(f.headers));
    case Op.opened: return appendOpened(out, f.id, f.window, encodeHeaders(f.headers));
    case Op.data: return appendData(out, f.id, f.last, f.payload);
  }
}
