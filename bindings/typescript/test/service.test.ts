import assert from "node:assert/strict";
import { it } from "node:test";
import {
  InvalidError, NoNodeError, TimeoutError, register, type Request, type Service, type ServiceHandler, type ServiceLimits,
} from "../src/index.js";
import { NO_LIMIT, Op } from "../src/wire/codes.js";
import type { Limits, RequestFrame } from "../src/wire/frame.js";
import { FakeNode, bounded, type FakeSession } from "./fakenode.js";
import { quiet } from "./quiet.js";

const none = Buffer.alloc(0);

interface World { service: Service; session: FakeSession; node: FakeNode }

async function serve(
  node: FakeNode, handler: ServiceHandler, limits: ServiceLimits = {}, over: Partial<Limits> = {}, reconnect = 0,
): Promise<World> {
  const [service, session] = await Promise.all([
    register(node.port, "upper", handler, { limits, reconnect, logger: quiet }), node.welcomed(over)]);
  await session.settle();
  return { service, session, node };
}

function request(id: number | bigint, over: Partial<RequestFrame> = {}): RequestFrame {
  return { op: Op.request, id, cluster: "upper", budget: NO_LIMIT, headers: {}, payload: none, ...over };
}

/** A handler's work that the test ends. */
function gate(): { open: () => void; opened: Promise<void> } {
  let open = (): void => {};
  const opened = new Promise<void>((resolve) => { open = resolve; });
  return { open, opened };
}

it("a service says its name, is granted credit for what it has room for, and replies", async () => {
  await using node = await FakeNode.start();
  const registering = register(node.port, "upper", {
    handleRequest: (r) => ({ payload: r.payload.toString().toUpperCase(), headers: { left: String(r.timeLeft > 0), ...r.headers } }),
  }, { reconnect: 0, logger: quiet, limits: { requests: 3, requestQueue: 4 } });
  const session = await node.session();
  assert.equal((await session.expect(Op.hello)).cluster, "upper");
  session.welcome();
  const service = await registering;
  await session.settle();
  assert.deepEqual(session.credit, [7, 0, 0]);
  session.send(request(2n ** 63n + 1n, { payload: Buffer.from("hello"), headers: { a: "1" }, budget: 1_000 }));
  const reply = await session.expect(Op.reply);
  assert.deepEqual([reply.id, reply.code, reply.payload.toString(), { ...reply.headers }], [2n ** 63n + 1n, 0, "HELLO", { left: "true", a: "1" }]);
  await session.settle();
  assert.deepEqual(session.credit, [8, 0, 0], "one is granted again");
  await service.abort();
  await assert.rejects(register(node.port, "", {}), InvalidError);
});

it("what a handler throws reaches the requester, and so does a reply that is too large", async () => {
  await using node = await FakeNode.start();
  const handler = {
    handleRequest(r: Request) {
      switch (r.payload.toString()) {
        case "throw": throw new Error("no one");
        case "empty": return Promise.reject(new Error(""));
        case "long": throw new Error("ü".repeat(9_000));
        case "large": return Buffer.alloc(11);
        case "headers": return { headers: { a: 1 as unknown as string } };
      }
      return undefined;
    },
  };
  const { service, session } = await serve(node, handler, {}, { payload: 10 });
  const outcome = async (payload: string): Promise<[number, string]> => {
    session.send(request(1, { payload: Buffer.from(payload) }));
    const reply = await session.expect(Op.reply);
    return [reply.code, reply.text];
  };
  assert.deepEqual(await outcome("throw"), [5, "no one"]);
  assert.deepEqual(await outcome("empty"), [5, ""]);
  assert.deepEqual(await outcome("long"), [5, "ü".repeat(8_192)]);
  assert.match((await outcome("large"))[1], /limit of 10 bytes for payload/);
  assert.match((await outcome("headers"))[1], /no string/);
  assert.deepEqual(await outcome(""), [0, ""]);
  await service.abort();
});

it("no more handlers run at once than the limit says, pings are answered meanwhile, and credit follows", async () => {
  await using node = await FakeNode.start();
  let running = 0;
  let most = 0;
  const work = gate();
  const { service, session } = await serve(node, {
    async handleRequest() {
      most = Math.max(most, ++running);
      await work.opened;
      running--;
    },
  }, { requests: 2, requestQueue: 2 });
  session.send(request(1), request(2), request(3), request(4));
  await session.settle();
  assert.deepEqual([running, session.credit[0]], [2, 4]);
  work.open();
  for (let i = 0; i < 4; i++) await session.expect(Op.reply);
  await session.settle();
  assert.deepEqual([most, session.credit[0]], [2, 8]);
  await service.abort();
});

it("memory bounds what is taken: credit is held back, and what does not fit fails", async () => {
  await using node = await FakeNode.start();
  const work = gate();
  const { service, session } = await serve(node, { handleRequest: () => work.opened }, { requests: 8, requestMemory: 100 });
  const before = session.credit[0]!;
  session.send(request(1, { payload: Buffer.alloc(90) }), request(2, { payload: Buffer.alloc(20) }));
  const refused = await session.expect(Op.reply);
  assert.deepEqual([refused.id, refused.code], [2, 5]);
  assert.match(refused.text, /memory/);
  await session.settle();
  assert.equal(session.credit[0], before, "nothing is granted while half of it is in use");
  work.open();
  await session.expect(Op.reply);
  await session.settle();
  assert.equal(session.credit[0], before + 2);
  await service.abort();
});

it("a cancel stops the handler, or takes the request out of the queue; neither is replied to", async () => {
  await using node = await FakeNode.start();
  const seen: string[] = [];
  const { service, session } = await serve(node, {
    handleRequest: (r) => new Promise((resolve) => {
      seen.push(r.payload.toString());
      r.signal.addEventListener("abort", () => { seen.push("stopped"); resolve(); });
    }),
  }, { requests: 1, requestQueue: 1 });
  session.send(request(1, { payload: Buffer.from("a") }), request(2, { payload: Buffer.from("b") }));
  session.send({ op: Op.cancel, id: 2 }, { op: Op.cancel, id: 1 }, { op: Op.cancel, id: 9 });
  const frames = [...await session.settle(), ...await session.settle()];
  assert.deepEqual(frames.filter((f) => f.op !== Op.credit), []);
  assert.deepEqual(seen, ["a", "stopped"]);
  assert.equal(session.credit[0], 4);
  await service.abort();
});

it("the signal of a request aborts when its time is over", async () => {
  await using node = await FakeNode.start();
  const { service, session } = await serve(node, {
    handleRequest: (r) => new Promise((resolve) => r.signal.addEventListener("abort", () => resolve("late"))),
  });
  session.send(request(1, { budget: 10 }));
  assert.equal((await session.expect(Op.reply)).payload.toString(), "late");
  await service.abort();
});

for (const [name, frames] of [
  ["a request without credit", [request(1), request(2), request(3)]],
  ["a broadcast without credit", [{ op: Op.broadcast, id: 0, cluster: "upper", headers: {}, payload: none }]],
  ["an event without credit", [{ op: Op.event, topic: "x", headers: {}, payload: none }]],
  ["a request with the id of one that runs", [request(1), request(1)]],
  ["an open with an id of the client", [{ op: Op.open, id: 1, cluster: "upper", budget: NO_LIMIT, window: 0, headers: {} }]],
  ["an open with a window beyond 2^31-1", [{ op: Op.open, id: 2n ** 63n, cluster: "upper", budget: NO_LIMIT, window: 2 ** 31, headers: {} }]],
  ["drained without a drain", [{ op: Op.drained }]],
  ["a second welcome", [{ op: Op.refuse, code: 16, text: "" }]],
] as const) {
  it(`${name} ends the connection as unexpected`, async () => {
    await using node = await FakeNode.start();
    const { service, session } = await serve(node, { handleRequest: () => new Promise(() => {}) }, { requests: 2, requestQueue: 0 });
    session.send(...frames);
    assert.equal((await session.expect(Op.bye)).code, 34);
    assert.ok((await service.connection.closed) instanceof NoNodeError);
    await session.closed;
  });
}

it("init comes first: nothing is taken before, its error ends the registration", async () => {
  await using node = await FakeNode.start();
  const ready = gate();
  const registering = register(node.port, "upper", { init: () => ready.opened, handleRequest: () => "" }, { reconnect: 0, logger: quiet });
  const session = await node.welcomed();
  await session.settle();
  assert.deepEqual(session.credit, [0, 0, 0]);
  ready.open();
  const service = await registering;
  await session.settle();
  assert.equal(session.credit[0], 2_048);
  await service.abort();
  const failing = register(node.port, "upper", { init: () => { throw new Error("no"); } }, { reconnect: 0, logger: quiet });
  await Promise.all([assert.rejects(failing, /^Error: no$/), node.welcomed()]);
});

it("broadcasts come in their order, with their headers; what is too slow for them is dropped", async () => {
  await using node = await FakeNode.start();
  const heard: string[] = [];
  const { service, session } = await serve(node, {
    async handleBroadcast(m) {
      await new Promise((resolve) => setImmediate(resolve));
      heard.push(m.payload.toString() + (m.headers["a"] ?? ""));
      if (heard.length === 3) throw new Error("a handler that fails");
    },
  }, { broadcastMemory: 6 });
  for (const payload of ["one", "two", "three", "four"]) {
    session.send({ op: Op.broadcast, id: 0, cluster: "upper", headers: { a: "!" }, payload: Buffer.from(payload) });
  }
  await session.settle();
  while (heard.length < 2) await session.settle();
  session.send({ op: Op.broadcast, id: 0, cluster: "upper", headers: {}, payload: Buffer.from("five") });
  while (heard.length < 3) await session.settle();
  assert.deepEqual(heard, ["one!", "two!", "five"]);
  await service.abort();
});

it("unregister drains: what runs is replied to, then the connection is closed", async () => {
  await using node = await FakeNode.start();
  const work = gate();
  const { service, session } = await serve(node, { handleRequest: () => work.opened });
  session.send(request(1));
  await session.settle();
  const ends = [service.unregister(), service.unregister(), service.connection.close()];
  await session.expect(Op.drain);
  session.send(request(2)); // crosses the drain: it is served
  assert.deepEqual(await session.settle(), [], "no credit any more");
  work.open();
  await session.expect(Op.reply);
  await session.expect(Op.reply);
  session.send({ op: Op.drained });
  assert.equal((await session.expect(Op.bye)).code, 0);
  await bounded("all ends", Promise.all(ends));
  await session.closed;
});

it("unregister gives up handlers that do not end, and does not mind the loss of the node", async () => {
  await using node = await FakeNode.start();
  const stuck = await serve(node, { handleRequest: () => new Promise(() => {}) });
  stuck.session.send(request(1));
  await stuck.session.settle();
  await assert.rejects(stuck.service.unregister({ timeout: 20 }), TimeoutError);
  const lost = await serve(node, {}, {}, {}, 10_000);
  const ending = lost.service.unregister();
  await lost.session.expect(Op.drain);
  lost.session.destroy();
  await bounded("the end", ending);
});

it("a handler may unregister the service", async () => {
  await using node = await FakeNode.start();
  const world: World = await serve(node, { handleRequest: () => { void world.service.unregister(); return "bye"; } });
  const { service, session } = world;
  session.send(request(1));
  const frames = (await session.settle()).map((f) => f.op).filter((op) => op !== Op.credit);
  assert.deepEqual(frames.sort((a, b) => a - b), [Op.drain, Op.reply]);
  session.send({ op: Op.drained });
  await session.expect(Op.bye);
  await bounded("the end", service.unregister());
});

it("a service registers and subscribes again, once, and its handlers' replies to the lost node go nowhere", async () => {
  await using node = await FakeNode.start();
  const work = gate();
  let stopped = false;
  const events: string[] = [];
  const { service, session } = await serve(node, {
    handleRequest: async (r) => { r.signal.addEventListener("abort", () => { stopped = true; }); await work.opened; },
  }, { requests: 2, requestQueue: 0 }, {}, 10_000);
  const subscribing = service.connection.subscribe("news", (e) => { events.push(e.payload.toString()); });
  session.send({ op: Op.done, id: (await session.expect(Op.subscribe)).id, code: 0, text: "" });
  await subscribing;
  session.send(request(1));
  await session.settle();
  session.destroy();
  const next = await node.session();
  assert.equal((await next.expect(Op.hello)).cluster, "upper");
  next.welcome();
  const again = await next.expect(Op.subscribe);
  assert.equal(again.topic, "news");
  next.send({ op: Op.done, id: again.id, code: 0, text: "" });
  await next.settle();
  assert.deepEqual([stopped, next.credit[0]], [true, 1], "the handler that runs still takes room");
  next.send({ op: Op.event, topic: "news", headers: {}, payload: Buffer.from("hi") });
  work.open();
  await next.settle();
  const rest = await next.settle();
  assert.deepEqual(rest.filter((f) => f.op !== Op.credit), []);
  assert.deepEqual([events, next.credit[0]], [["hi"], 2]);
  await service.abort();
});

it("handleDrop is called once when the node is given up", async () => {
  const node = await FakeNode.start();
  const reasons: Error[] = [];
  const { service } = await serve(node, { handleDrop: (reason) => { reasons.push(reason); } }, {}, {}, 60);
  await node[Symbol.asyncDispose]();
  await bounded("the end", service.connection.closed);
  await service.unregister();
  assert.equal(reasons.length, 1);
  assert.ok(reasons[0] instanceof NoNodeError);
});
