import assert from "node:assert/strict";
import { it } from "node:test";
import { CancelledError, InvalidError, LostError, OverloadedError, TimeoutError, connect, type Connection } from "../src/index.js";
import { Op } from "../src/wire/codes.js";
import type { Frame, Limits } from "../src/wire/frame.js";
import { FakeNode, type FakeSession } from "./fakenode.js";
import { quiet } from "./quiet.js";

async function attach(node: FakeNode, limits: Partial<Limits> = {}): Promise<[Connection, FakeSession]> {
  const [client, session] = await Promise.all([connect(node.port, { reconnect: 0, logger: quiet }), node.welcomed(limits)]);
  return [client, session];
}

const event = (topic: string, payload: string): Frame => ({ op: Op.event, topic, headers: { a: payload }, payload: Buffer.from(payload) });
const ok = (id: number | bigint): Frame => ({ op: Op.done, id, code: 0, text: "" });

it("a subscription is confirmed, its events come in their order, and behind an unsubscribe comes none", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const seen: string[] = [];
  let subscribed = false;
  const subscribing = client.subscribe("news", async (e) => {
    await new Promise((resolve) => setImmediate(resolve));
    seen.push(`${e.topic} ${e.payload} ${e.headers["a"]}`);
  }, { queue: 3 }).then(() => { subscribed = true; });
  const { id, topic } = await session.expect(Op.subscribe);
  await session.settle();
  assert.deepEqual([topic, subscribed, session.credit[2]], ["news", false, 4]);
  session.send(event("news", "1"), ok(id), event("news", "2"), event("other", "3"));
  await subscribing;
  while (seen.length < 2) await session.settle();
  assert.deepEqual(seen, ["news 1 1", "news 2 2"]);
  await session.settle();
  assert.equal(session.credit[2], 7, "one again for each, also for what was not wanted");
  await assert.rejects(client.subscribe("news", () => {}), InvalidError);
  const ending = client.unsubscribe("news");
  const end = await session.expect(Op.unsubscribe);
  session.send(event("news", "4"), ok(end.id));
  await ending;
  await session.settle();
  assert.equal(seen.length, 2);
  await assert.rejects(client.unsubscribe("news"), InvalidError);
  await client.close();
});

it("a subscription made behind an unsubscribe gets no event of the old one", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const seen: string[] = [];
  const first = client.subscribe("t", (e) => { seen.push(`old ${e.payload}`); });
  session.send(ok((await session.expect(Op.subscribe)).id));
  await first;
  const both = [client.unsubscribe("t"), client.subscribe("t", (e) => { seen.push(`new ${e.payload}`); })];
  const [end, again] = [await session.expect(Op.unsubscribe), await session.expect(Op.subscribe)];
  session.send(event("t", "1"), ok(end.id), event("t", "2"), ok(again.id), event("t", "3"));
  await Promise.all(both);
  await session.settle();
  assert.deepEqual(seen, ["new 2", "new 3"]);
  await client.close();
});

it("a subscribe that fails leaves no subscription", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node, { topics: 1 });
  const refused = client.subscribe("t", () => {});
  session.send({ op: Op.done, id: (await session.expect(Op.subscribe)).id, code: 3, text: "" });
  await assert.rejects(refused, OverloadedError);
  const late = client.subscribe("t", () => {}, { timeout: 10 });
  await session.expect(Op.subscribe);
  await assert.rejects(late, TimeoutError);
  session.send(ok((await session.expect(Op.unsubscribe)).id));
  const given = client.subscribe("t", () => {});
  given.catch(() => {});
  await session.expect(Op.subscribe);
  await assert.rejects(client.subscribe("u", () => {}), OverloadedError, "the node's limit of topics");
  const ending = client.unsubscribe("t");
  session.send(ok((await session.expect(Op.unsubscribe)).id));
  await ending;
  await assert.rejects(given, CancelledError);
  const lost = client.subscribe("t", () => {});
  await session.expect(Op.subscribe);
  session.destroy();
  await assert.rejects(lost, LostError);
});

it("a full subscription drops, the others go on; an unsubscribe within a handler works", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  let release = (): void => {};
  const held = new Promise<void>((resolve) => { release = resolve; });
  const seen: string[] = [];
  const both = [
    client.subscribe("slow", async (e) => { await held; seen.push(`slow ${e.payload}`); }, { queue: 1 }),
    client.subscribe("fast", (e) => { seen.push(`fast ${e.payload}`); void client.unsubscribe("fast"); }),
  ];
  session.send(ok((await session.expect(Op.subscribe)).id), ok((await session.expect(Op.subscribe)).id));
  await Promise.all(both);
  session.send(event("slow", "1"), event("slow", "2"), event("slow", "3"), event("fast", "1"), event("fast", "2"));
  await session.expect(Op.unsubscribe);
  release();
  while (seen.length < 3) await session.settle();
  assert.deepEqual(seen, ["fast 1", "slow 1", "slow 2"]);
  await client.close();
});

it("events are a loop", async () => {
  await using node = await FakeNode.start();
  const [client, session] = await attach(node);
  const seen: string[] = [];
  const loop = (async () => {
    for await (const e of client.events("t")) if (seen.push(e.payload.toString()) === 3) break;
  })();
  session.send(ok((await session.expect(Op.subscribe)).id), event("t", "1"), event("t", "2"), event("t", "3"), event("t", "4"));
  session.send(ok((await session.expect(Op.unsubscribe)).id));
  await loop;
  assert.deepEqual(seen, ["1", "2", "3"]);
  const abort = new AbortController();
  const next = client.events("t", { signal: abort.signal }).next();
  next.catch(() => {});
  session.send(ok((await session.expect(Op.subscribe)).id));
  await session.settle();
  abort.abort();
  session.send(ok((await session.expect(Op.unsubscribe)).id));
  await assert.rejects(next, CancelledError);
  await client.close();
});
