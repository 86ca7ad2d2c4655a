import assert from "node:assert/strict";
import { it } from "node:test";
import {
  ClosedError, CancelledError, LostError, NoServiceError, OverloadedError, ProtocolError, RemoteError, TimeoutError, connect, register,
  type Connection, type Service, type ServiceHandler, type ServiceLimits, type Tunnel,
} from "../src/index.js";
import { NO_LIMIT, Op } from "../src/wire/codes.js";
import type { DataFrame, Frame, Id, Limits } from "../src/wire/frame.js";
import { FakeNode, bounded, type FakeSession } from "./fakenode.js";
import { quiet } from "./quiet.js";

interface World { client: Connection; session: FakeSession; tunnel: Tunnel; id: Id; window: number }

async function attach(node: FakeNode, limits: Partial<Limits> = {}): Promise<[Connection, FakeSession]> {
  return Promise.all([connect(node.port, { reconnect: 0, logger: quiet }), node.welcomed(limits)]);
}

async function open(node: FakeNode, window: number, limits: Partial<Limits> = {}): Promise<World> {
  const [client, session] = await attach(node, limits);
  const asking = client.tunnel("upper");
  const asked = await session.expect(Op.open);
  session.send({ op: Op.opened, id: asked.id, window, headers: {} });
  return { client, session, tunnel: await asking, id: asked.id, window: asked.window };
}

const data = (id: Id, payload: string | Buffer, last = 1): DataFrame => ({ op: Op.data, id, last, payload: Buffer.from(payload) });
const allow = (id: Id, n: number): Frame => ({ op: Op.allow, id, n });
const finish = (id: Id): Frame => ({ op: Op.finish, id });
const abort = (id: Id, code: number, text = ""): Frame => ({ op: Op.abort, id, code, text });

it("a tunnel is asked for and accepted, with headers both ways", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const asking = client.tunnel("upper", { headers: { a: "1" }, timeout: 1_000 });
  const asked = await session.expect(Op.open);
  assert.deepEqual([asked.cluster, { ...asked.headers }, asked.window], ["upper", { a: "1" }, 1 << 20]);
  assert.ok(asked.budget > 900 && asked.budget <= 1_000);
  session.send({ op: Op.opened, id: asked.id, window: 1_000, headers: { b: "2" } });
  const tunnel = await asking;
  assert.deepEqual({ ...tunnel.headers }, { b: "2" });
  await client.close();
  await assert.rejects(tunnel.send(""), ClosedError);
  await assert.rejects(tunnel.recv(), ClosedError);
});

it("a tunnel that comes to nothing says why", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node, { tunnels: 1 });
  for (const [code, kind] of [[2, NoServiceError], [1, TimeoutError], [3, OverloadedError], [4, LostError], [5, RemoteError], [0, ClosedError]] as const) {
    const asking = client.tunnel("c");
    session.send(abort((await session.expect(Op.open)).id, code, code === 5 ? "no room" : ""));
    await assert.rejects(asking, (err) => err instanceof kind && (code !== 5 || err.message === "no room"));
  }
  const late = client.tunnel("c", { timeout: 10 });
  const asked = await session.expect(Op.open);
  await assert.rejects(client.tunnel("c"), OverloadedError);
  await assert.rejects(late, TimeoutError);
  assert.equal((await session.expect(Op.abort)).id, asked.id);
  session.send({ op: Op.opened, id: asked.id, window: 1, headers: {} }); // has crossed: it is ignored
  await session.settle();
  const cancelled = client.tunnel("c", { signal: AbortSignal.timeout(5) });
  await session.expect(Op.open);
  await assert.rejects(cancelled, TimeoutError);
  await session.expect(Op.abort);
  await client.close();
});

it("nothing is sent beyond the allowance, and messages of any size go in chunks", async () => {
  await using node = await FakeNode.start();
  const { client, session, tunnel, id } = await open(node, 2 * (10 + 64), { chunk: 10 });
  const message = Buffer.from("0123456789abcdefghijklmno");
  const sending = tunnel.send(message);
  const first = [await session.expect(Op.data), await session.expect(Op.data)];
  assert.deepEqual(first.map((f) => [f.payload.toString(), f.last]), [["0123456789", 0], ["abcdefghij", 0]]);
  assert.deepEqual(await session.settle(), []);
  session.send(allow(id, 5));
  assert.deepEqual(await session.settle(), [], "half a chunk is not worth a frame");
  session.send(allow(id, 64));
  await sending;
  assert.deepEqual([(await session.expect(Op.data)).payload.toString()], ["klmno"]);
  const empty = tunnel.send("");
  session.send(allow(id, 64));
  await empty;
  assert.deepEqual((await session.expect(Op.data)).payload.length, 0);
  await client.close();
});

it("a window smaller than a chunk cuts it", async () => {
  await using node = await FakeNode.start();
  const { client, session, tunnel, id } = await open(node, 66);
  const sending = tunnel.send("abcde");
  let got = "";
  for (let last = 0; last === 0;) {
    const f = await session.expect(Op.data);
    assert.ok(f.payload.length <= 2);
    got += f.payload.toString();
    last = f.last;
    session.send(allow(id, f.payload.length + 64));
  }
  await sending;
  assert.equal(got, "abcde");
  await client.close();
});

it("what is received is allowed again when it is dealt with", async () => {
  await using node = await FakeNode.start();
  const { client, session, tunnel, id } = await open(node, 1_000);
  session.send(data(id, "one"), data(id, "tw", 0), data(id, "", 0), data(id, "o"), data(id, "three"));
  assert.deepEqual(await session.settle(), [], "nobody has received yet");
  assert.equal(String(await tunnel.recv()), "one");
  assert.equal((await session.expect(Op.allow)).n, 67);
  assert.equal(String(await tunnel.recv()), "two");
  assert.equal((await session.expect(Op.allow)).n, 3 * 64 + 3);
  session.send(finish(id));
  const rest: string[] = [];
  for await (const message of tunnel) rest.push(message.toString());
  assert.deepEqual(rest, ["three"]);
  assert.equal(await tunnel.recv(), null);
  await assert.rejects(tunnel.recv({ signal: AbortSignal.abort() }), CancelledError);
  await tunnel.send("still");
  await tunnel.closeSend();
  await session.expect(Op.data);
  await session.expect(Op.finish);
  await assert.rejects(tunnel.send(""), ClosedError);
  await tunnel.close();
  session.send(allow(id, 1)); // crosses the end
  assert.deepEqual(await session.settle(), []);
  await client.close();
});

it("a recv that is given up loses nothing; a send that has begun and is given up aborts", async () => {
  await using node = await FakeNode.start();
  const { client, session, tunnel, id } = await open(node, 74, { chunk: 10 });
  session.send(data(id, "a", 0));
  await assert.rejects(tunnel.recv({ timeout: 10 }), TimeoutError);
  session.send(data(id, "b"));
  assert.equal(String(await tunnel.recv()), "ab");
  const blocked = tunnel.send("01234567890");
  const second = new AbortController();
  const waits = tunnel.send("never", { signal: second.signal });
  second.abort();
  await assert.rejects(waits, CancelledError);
  await session.expect(Op.data);
  blocked.catch(() => {});
  const third = tunnel.send("x", { timeout: 5 });
  await assert.rejects(third, TimeoutError);
  session.send(allow(id, 74 + 65));
  await blocked;
  await session.expect(Op.data);
  await assert.rejects(tunnel.send(Buffer.alloc(100), { timeout: 10 }), TimeoutError);
  await session.expect(Op.data);
  assert.equal((await session.expect(Op.abort)).code, 0);
  await client.close();
});

it("close delivers what was sent, discards the rest, and waits for the other side", async () => {
  await using node = await FakeNode.start();
  const { client, session, tunnel, id } = await open(node, 64 + 2);
  session.send(data(id, "unread"));
  await session.settle();
  const sends = [tunnel.send("ab"), tunnel.send("cd")];
  const closing = bounded("close", Promise.all([tunnel.close(), tunnel.close()]));
  assert.equal((await session.expect(Op.data)).payload.toString(), "ab");
  session.send(allow(id, 66), data(id, "more"));
  assert.equal((await session.expect(Op.data)).payload.toString(), "cd");
  await Promise.all(sends);
  await session.expect(Op.finish);
  session.send(finish(id));
  await closing;
  await assert.rejects(tunnel.recv(), ClosedError);
  await client.close();
});

it("close ends a tunnel whose other side has taken everything and goes on sending", async () => {
  await using node = await FakeNode.start();
  const { client, session, tunnel, id } = await open(node, 1_000);
  await tunnel.send("ab");
  const closing = bounded("close", tunnel.close());
  await session.expect(Op.data);
  await session.expect(Op.finish);
  session.send(data(id, "1"));
  await session.expect(Op.allow);
  session.send(allow(id, 66), data(id, "2"));
  assert.equal((await session.expect(Op.abort)).code, 0);
  await closing;
  await client.close();
});

it("close does not wait for ever", async () => {
  await using node = await FakeNode.start();
  const { client, session, tunnel } = await open(node, 1_000);
  await assert.rejects(tunnel.close({ timeout: 10 }), TimeoutError);
  await session.expect(Op.finish);
  await session.expect(Op.abort);
  await client.close();
});

it("an abort breaks off both directions, what came before is delivered", async () => {
  await using node = await FakeNode.start();
  const { client, session, tunnel, id } = await open(node, 64);
  const blocked = tunnel.send("x");
  session.send(data(id, "first"), abort(id, 5, "the disk is full"));
  await assert.rejects(blocked, (err) => err instanceof RemoteError && err.message === "the disk is full");
  assert.equal(String(await tunnel.recv()), "first");
  await assert.rejects(tunnel.recv(), RemoteError);
  await assert.rejects(tunnel.close(), RemoteError);
  await client.close();
  const other = await open(node, 64);
  other.tunnel.abort("enough");
  other.tunnel.abort();
  const sent = await other.session.expect(Op.abort);
  assert.deepEqual([sent.code, sent.text], [5, "enough"]);
  await other.tunnel.close();
  assert.deepEqual(await other.session.settle(), []);
  const third = other.client.tunnel("c");
  const { id: last } = await other.session.expect(Op.open);
  other.session.send({ op: Op.opened, id: last, window: 0, headers: {} });
  const tunnel3 = await third;
  other.session.destroy();
  await assert.rejects(tunnel3.recv(), LostError);
});

for (const [name, frames] of [
  ["data beyond the allowance", (w: World) => [data(w.id, Buffer.alloc(65_000))].concat(Array.from({ length: 16 }, () => data(w.id, Buffer.alloc(65_000))))],
  ["an allow beyond 2^31-1", (w: World) => [allow(w.id, 2 ** 31 - 1)]],
  ["data behind a finish", (w: World) => [finish(w.id), data(w.id, "")]],
  ["a second finish", (w: World) => [finish(w.id), finish(w.id)]],
  ["a second opened", (w: World) => [{ op: Op.opened, id: w.id, window: 0, headers: {} } as const]],
] as const) {
  it(`${name} ends the connection as unexpected`, async () => {
    await using node = await FakeNode.start();
    const world = await open(node, 100);
    world.session.send(...frames(world));
    assert.equal((await world.session.expect(Op.bye)).code, 34);
    await bounded("the end", world.client.closed);
  });
}

it("a finish within a message breaks the tunnel", async () => {
  await using node = await FakeNode.start();
  const { client, session, tunnel, id } = await open(node, 100);
  session.send(data(id, "half", 0), finish(id));
  await session.expect(Op.abort);
  await assert.rejects(tunnel.recv(), ProtocolError);
  await client.close();
});

async function serve(node: FakeNode, handler: ServiceHandler, limits: ServiceLimits = {}): Promise<[Service, FakeSession]> {
  return Promise.all([register(node.port, "upper", handler, { limits, reconnect: 0, logger: quiet }), node.welcomed()]);
}

const offer = (n: bigint, headers = {}): Frame => ({ op: Op.open, id: 2n ** 63n + n, cluster: "upper", budget: NO_LIMIT, window: 1_000, headers });

it("a service accepts, serves and closes the tunnels that it is offered", async () => {
  await using node = await FakeNode.start();
  const [service, session] = await serve(node, {
    acceptTunnel: ({ headers }) => { if (headers["no"]) throw new Error("not you"); return { hello: headers["a"] ?? "" }; },
    async handleTunnel(tunnel) {
      for await (const message of tunnel) await tunnel.send(message.toString().toUpperCase());
    },
  }, { tunnels: 1 });
  session.send(offer(1n, { a: "1" }), offer(2n));
  const refused = await session.expect(Op.abort);
  assert.deepEqual([refused.id, refused.code], [2n ** 63n + 2n, 3]);
  const opened = await session.expect(Op.opened);
  assert.deepEqual([opened.id, { ...opened.headers }], [2n ** 63n + 1n, { hello: "1" }]);
  session.send(data(opened.id, "hello"), finish(opened.id));
  assert.equal((await session.expect(Op.data)).payload.toString(), "HELLO");
  await session.expect(Op.finish);
  await session.settle();
  session.send(offer(3n, { no: "1" }));
  const second = await session.expect(Op.abort);
  assert.deepEqual([second.code, second.text], [5, "not you"]);
  session.send(offer(4n), abort(2n ** 63n + 4n, 1));
  await session.settle();
  await service.abort();
});

it("a handler that throws aborts its tunnel; a service without one takes none", async () => {
  await using node = await FakeNode.start();
  const [service, session] = await serve(node, { handleTunnel: () => { throw new Error("broken"); } });
  session.send(offer(1n));
  await session.expect(Op.opened);
  assert.equal((await session.expect(Op.abort)).text, "broken");
  await service.abort();
  const [other, second] = await serve(node, {});
  second.send(offer(1n));
  assert.equal((await second.expect(Op.abort)).code, 5);
  await other.abort();
});

it("a tunnel that has been received to its end says so behind its close, too", async () => {
  await using node = await FakeNode.start();
  const { tunnel, session, id } = await open(node, 1_000);
  session.send(data(id, "all"), finish(id));
  assert.equal((await tunnel.recv())?.toString(), "all");
  assert.equal(await tunnel.recv(), null);
  await tunnel.close();
  assert.equal(await tunnel.recv(), null);
});
