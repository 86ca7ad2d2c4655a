import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { it } from "node:test";
import {
  CancelledError, ClosedError, InvalidError, LostError, NoNodeError, NoServiceError, OverloadedError, RefusedError, RemoteError,
  TimeoutError, TooLargeError, connect, type Connection,
} from "../src/index.js";
import { Connection as Raw } from "../src/connection.js";
import { NO_LIMIT, Op } from "../src/wire/codes.js";
import type { Limits, ReplyFrame, RequestFrame } from "../src/wire/frame.js";
import { FakeNode, bounded, type FakeSession } from "./fakenode.js";
import { quiet } from "./quiet.js";

const none = Buffer.alloc(0);

async function attach(node: FakeNode, limits: Partial<Limits> = {}, reconnect = 0): Promise<[Connection, FakeSession]> {
  const [connection, session] = await Promise.all([connect(node.port, { reconnect, logger: quiet }), node.welcomed(limits)]);
  return [connection, session];
}

function replyTo(request: RequestFrame, over: Partial<ReplyFrame> = {}): ReplyFrame {
  return { op: Op.reply, id: request.id, code: 0, text: "", headers: {}, payload: none, ...over };
}

it("a request carries its parts, and its reply comes back", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const pending = client.call("upper", "hello", { timeout: 1_000, headers: { b: "2", a: "1" } });
  const request = await session.expect(Op.request);
  assert.equal(request.cluster, "upper");
  assert.equal(request.payload.toString(), "hello");
  assert.deepEqual({ ...request.headers }, { a: "1", b: "2" });
  assert.ok(request.budget > 900 && request.budget <= 1_000, String(request.budget));
  session.send(replyTo(request, { payload: Buffer.from("HELLO"), headers: { c: "3" } }));
  const reply = await pending;
  assert.equal(reply.payload.toString(), "HELLO");
  assert.deepEqual({ ...reply.headers }, { c: "3" });
  await client.close();
  assert.equal((await session.expect(Op.bye)).code, 0);
});

it("a request without a timeout has no limit, an empty reply is one, and replies find their requests in any order", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const both = [client.request("c", "1"), client.request("c", "2")];
  const [first, second] = [await session.expect(Op.request), await session.expect(Op.request)];
  assert.equal(first.budget, NO_LIMIT);
  session.send(replyTo(second, { payload: Buffer.from("two") }), replyTo(first));
  assert.deepEqual((await Promise.all(both)).map(String), ["", "two"]);
  await client.close();
});

it("every code of a reply is an error of its own", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const expected = new Map<number, [string, RegExp]>([
    [1, ["timeout", /timed out/]], [2, ["no-service", /no such service/]], [3, ["overloaded", /./]], [4, ["lost", /./]],
    [5, ["failed", /^$/]], [6, ["cancelled", /./]], [7, ["closing", /./]], [8, ["invalid", /./]], [12, ["lost", /./]], [99, ["protocol", /99/]],
  ]);
  for (const [code, [name, text]] of expected) {
    const pending = client.request("c", "");
    session.send(replyTo(await session.expect(Op.request), { code }));
    await assert.rejects(pending, (err: RemoteError) => err.code === name && text.test(err.message));
  }
  const pending = client.request("c", "");
  session.send(replyTo(await session.expect(Op.request), { code: 5, text: "no one" }));
  await assert.rejects(pending, (err) => err instanceof RemoteError && err.message === "no one");
  await client.close();
});

it("a request that nobody answers times out, and its late reply is ignored", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const pending = client.request("c", "", { timeout: 20 });
  const request = await session.expect(Op.request);
  await assert.rejects(pending, TimeoutError);
  session.send(replyTo(request));
  assert.deepEqual(await session.settle(), []);
  await assert.rejects(client.request("c", "", { timeout: 0 }), TimeoutError);
  assert.deepEqual(await session.settle(), [], "what had no time was not sent");
  await client.close();
});

it("an abort cancels the request at the node", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const abort = new AbortController();
  const pending = client.request("c", "", { signal: abort.signal });
  const request = await session.expect(Op.request);
  abort.abort("enough");
  await assert.rejects(pending, (err) => err instanceof CancelledError && err.cause === "enough");
  assert.equal((await session.expect(Op.cancel)).id, request.id);
  session.send(replyTo(request, { code: 6 }));
  await assert.rejects(client.request("c", "", { signal: abort.signal }), CancelledError);
  await assert.rejects(client.request("c", "", { signal: AbortSignal.timeout(5) }), TimeoutError);
  await session.expect(Op.request);
  await session.expect(Op.cancel);
  const lasting = new AbortController();
  const answered = client.request("c", "", { signal: lasting.signal });
  session.send(replyTo(await session.expect(Op.request)));
  await answered;
  assert.equal(getEventListeners(lasting.signal, "abort").length, 0);
  await client.close();
});

it("what exceeds a limit of the node is not sent", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node, { payload: 10, headers: 20, name: 5, requests: 1 });
  await assert.rejects(client.request("c", Buffer.alloc(11)), TooLargeError);
  await assert.rejects(client.publish("c", Buffer.alloc(11)), TooLargeError);
  await assert.rejects(client.broadcast("c", "", { headers: { a: "b".repeat(20) } }), TooLargeError);
  await assert.rejects(client.request("éééé", ""), TooLargeError);
  await assert.rejects(client.subscribe("longer", () => {}), TooLargeError);
  await assert.rejects(client.tunnel("longer"), TooLargeError);
  await assert.rejects(client.request("", ""), InvalidError);
  const many = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [String(i), ""]));
  await assert.rejects(client.request("c", "", { headers: many }), InvalidError);
  await assert.rejects(client.request("c", "", { timeout: NaN }), InvalidError);
  assert.deepEqual(await session.settle(), []);
  const pending = client.request("ééc", Buffer.alloc(10));
  await assert.rejects(client.request("c", ""), OverloadedError);
  session.send(replyTo(await session.expect(Op.request)));
  await pending;
  await client.close();
});

it("requests of one turn leave in one write", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  await session.settle();
  const before = session.chunks;
  const all = Array.from({ length: 100 }, (_, i) => client.request("c", String(i)));
  for (let i = 0; i < 100; i++) {
    const request = await session.expect(Op.request);
    assert.equal(request.payload.toString(), String(i));
    session.send(replyTo(request));
  }
  await Promise.all(all);
  assert.equal(session.chunks - before, 1);
  await client.close();
});

it("a broadcast or publish asks for an outcome only when it is to be confirmed", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  await client.publish("news", "hi", { headers: { a: "1" } });
  const event = await session.expect(Op.publish);
  assert.deepEqual([event.id, event.topic, event.payload.toString(), event.headers["a"]], [0, "news", "hi", "1"]);
  const confirmed = client.broadcast("c", "hi", { confirm: true });
  const refused = client.broadcast("d", "hi", { confirm: true });
  const [first, second] = [await session.expect(Op.broadcast), await session.expect(Op.broadcast)];
  assert.notEqual(first.id, second.id);
  session.send({ op: Op.done, id: second.id, code: 2, text: "" }, { op: Op.done, id: first.id, code: 0, text: "" });
  await confirmed;
  await assert.rejects(refused, NoServiceError);
  await client.close();
});

it("senders wait while the node does not read, in their order", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  await session.settle();
  session.pause();
  let sent = 0;
  const all = Array.from({ length: 64 }, (_, i) => client.publish("c", Buffer.alloc(262_144, i)).then(() => { sent++; }));
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(sent < 60, `${sent} of 16 MiB were taken at once`);
  session.resume();
  for (let i = 0; i < 64; i++) assert.equal((await session.expect(Op.publish)).payload[0], i);
  await bounded("all are sent", Promise.all(all));
  await client.close();
});

it("when the node is lost, what is in flight is lost, what waits goes on with the next node", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node, {}, 10_000);
  const lost = client.request("c", "1");
  await session.expect(Op.request);
  session.destroy();
  await assert.rejects(lost, LostError);
  const waits = client.request("c", "2");
  const late = client.request("c", "3", { timeout: 1 });
  await assert.rejects(late, TimeoutError);
  const next = await node.welcomed();
  const request = await next.expect(Op.request);
  assert.equal(request.payload.toString(), "2");
  next.send(replyTo(request));
  await waits;
  await client.close();
});

it("a node that leaves gets nothing new, and the rest finishes there", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node, {}, 10_000);
  const old = client.request("c", "old");
  const request = await session.expect(Op.request);
  session.send({ op: Op.leaving });
  await session.settle();
  const fresh = client.request("c", "new");
  assert.deepEqual(await session.settle(), []);
  session.send(replyTo(request));
  await old;
  assert.equal((await session.expect(Op.bye)).code, 0);
  const next = await node.welcomed();
  next.send(replyTo(await next.expect(Op.request)));
  await fresh;
  await client.close();
});

it("a node that stays away is given up", async () => {
  const node = await FakeNode.start();
  const [client, session] = await attach(node, {}, 120);
  const lost = client.request("c", "");
  await session.expect(Op.request);
  await Promise.all([node[Symbol.asyncDispose](), assert.rejects(lost, LostError)]);
  const waits = client.request("c", "");
  const reason = await bounded("it is given up", client.closed);
  assert.ok(reason instanceof NoNodeError);
  await assert.rejects(waits, NoNodeError);
  await assert.rejects(client.request("c", ""), NoNodeError);
  await client.close();
  await assert.rejects(connect(node.port), NoNodeError);
  await assert.rejects(connect(0), InvalidError);
});

it("a refusal has its reason; later, not-ready is tried again and a name that is refused is the end", async () => {
  await using node = await FakeNode.start();
  for (const [code, name] of [[16, "version"], [18, "name"], [19, "limit"], [20, "not-ready"], [30, "not-ready"]] as const) {
    const attached = connect(node.port, { logger: quiet });
    attached.catch(() => {});
    const session = await node.session();
    session.send({ op: Op.refuse, code, text: "because" });
    await assert.rejects(attached, (err) => err instanceof RefusedError && err.code === name && /because/.test(err.message));
    await session.closed;
  }
  const [client, session] = await attach(node, {}, 10_000);
  session.destroy();
  (await node.session()).send({ op: Op.refuse, code: 20, text: "" });
  (await node.session()).send({ op: Op.refuse, code: 18, text: "" });
  assert.equal(((await bounded("it is given up", client.closed))!.cause as RefusedError).code, "name");
});

it("attaching is bounded by its time and its signal", async () => {
  await using node = await FakeNode.start();
  await assert.rejects(connect(node.port, { timeout: 20 }), TimeoutError);
  await assert.rejects(connect(node.port, { signal: AbortSignal.timeout(20) }), TimeoutError);
  await assert.rejects(connect(node.port, { signal: AbortSignal.abort() }), CancelledError);
});

it("close ends everything at once, any number of times", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const pending = client.request("c", "");
  pending.catch(() => {});
  await session.expect(Op.request);
  await bounded("closed", Promise.all([client.close(), client.close()]));
  await assert.rejects(pending, ClosedError);
  await assert.rejects(client.publish("c", ""), ClosedError);
  assert.equal(await client.closed, undefined);
  assert.equal((await session.expect(Op.bye)).code, 0);
  await session.closed;
});

it("a bye of the node and its reason reach the operations", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const pending = client.request("c", "");
  await session.expect(Op.request);
  session.send({ op: Op.bye, code: 7, text: "maintenance" });
  await assert.rejects(pending, (err) => err instanceof LostError && /closing: maintenance/.test(err.message));
  await session.closed;
});

it("a silent node is asked, and given up when it stays silent", async () => {
  await using node = await FakeNode.start();
  const client = new Raw(node.port, { reconnect: 0, logger: quiet, silence: 30 });
  const attached = client.attachment.open(5_000, undefined);
  const session = await node.welcomed();
  session.answers = false;
  await attached;
  session.send({ op: Op.pong, token: (await session.expect(Op.ping)).token });
  await session.expect(Op.ping);
  assert.equal((await session.expect(Op.bye)).code, 36);
  assert.ok((await client.closed) instanceof NoNodeError);
});
