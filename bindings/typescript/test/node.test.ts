// Against a real node: set IRIS_BINARY to the iris binary.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, describe, it } from "node:test";
import {
  CancelledError, ClosedError, InvalidError, LostError, NoServiceError, OverloadedError, RefusedError, RemoteError, TimeoutError, TooLargeError,
  connect, register, type Connection, type Service,
} from "../src/index.js";
import { BOUND } from "./fakenode.js";
import { Iris, binary } from "./iris.js";
import { quiet } from "./quiet.js";

const options = { logger: quiet };

describe("against a real node", { skip: binary ? false : "IRIS_BINARY is not set" }, () => {
  let iris: Iris;
  let client: Connection;
  let service: Service;
  const broadcasts: string[] = [];

  before(async () => {
    iris = await Iris.start();
    client = await connect(iris.port, options);
    service = await register(iris.port, "upper", {
      async handleRequest(request) {
        const text = request.payload.toString();
        if (text === "fail") throw new Error("as you wish");
        if (text === "wait") await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
        if (text === "nest") return client.request("upper", "nested");
        return { payload: text.toUpperCase(), headers: request.headers };
      },
      handleBroadcast: (message) => { broadcasts.push(message.payload.toString() + (message.headers["n"] ?? "")); },
      acceptTunnel: ({ headers }) => ({ got: headers["a"] ?? "" }),
      async handleTunnel(tunnel) {
        for await (const message of tunnel) await tunnel.send(message);
      },
    }, options);
  });
  after(async () => {
    await client?.close();
    await service?.unregister();
    await iris?.[Symbol.asyncDispose]();
  });

  /** A request when the service is there again: before, nobody serves, or has granted credit. */
  async function attached(): Promise<Buffer> {
    for (const until = performance.now() + BOUND; ;) {
      try {
        return await client.request("upper", "back", { timeout: BOUND });
      } catch (err) {
        if (performance.now() > until || !(err instanceof NoServiceError || err instanceof OverloadedError)) throw err;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }

  it("requests, with every outcome", async () => {
    const reply = await client.call("upper", "hello", { headers: { a: "1" }, timeout: 5_000 });
    assert.deepEqual([reply.payload.toString(), { ...reply.headers }], ["HELLO", { a: "1" }]);
    await assert.rejects(client.request("upper", "fail"), (err) => err instanceof RemoteError && err.message === "as you wish");
    await assert.rejects(client.request("nobody", ""), NoServiceError);
    await assert.rejects(client.request("upper", "wait", { timeout: 30 }), TimeoutError);
    await assert.rejects(client.request("upper", "wait", { signal: AbortSignal.timeout(30) }), TimeoutError);
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 20);
    await assert.rejects(client.request("upper", "wait", { signal: abort.signal }), CancelledError);
    const most = Buffer.alloc(1 << 20, "a");
    assert.equal((await client.request("upper", most)).length, most.length);
    await assert.rejects(client.request("upper", Buffer.alloc((1 << 20) + 1)), TooLargeError);
    await assert.rejects(register(iris.port, "$mine", {}, options), (err) => err instanceof RefusedError && err.code === "name");
    assert.match((await client.request("$node", "status")).toString(), /^\{/);
  });

  it("headers of exactly the limit and names of exactly the limit pass the node", async () => {
    const headers = { a: "b".repeat(16_384 - 1 - 2 - 3) };
    assert.equal((await client.call("upper", "", { headers })).headers["a"]!.length, headers.a.length);
    await assert.rejects(client.request("n".repeat(255), ""), NoServiceError);
  });

  it("2,000 nested requests at once", async () => {
    const all = Array.from({ length: 1_000 }, () => client.request("upper", "nest", { timeout: 10_000 }));
    for (const reply of await Promise.all(all)) assert.equal(reply.toString(), "NESTED");
  });

  it("broadcasts, in their order", async () => {
    for (let i = 0; i < 500; i++) await client.broadcast("upper", String(i), { headers: { n: "!" } });
    await client.broadcast("upper", "last", { confirm: true });
    await client.request("upper", "");
    while (broadcasts.length < 501) await client.request("upper", "", { timeout: 5_000 });
    assert.deepEqual(broadcasts, [...Array.from({ length: 500 }, (_, i) => `${i}!`), "last"]);
    await assert.rejects(client.broadcast("nobody", "", { confirm: true }), NoServiceError);
  });

  it("events, from the first behind the subscribe on", async () => {
    const seen: number[] = [];
    await client.subscribe("news", (event) => { seen.push(Number(event.payload.toString())); });
    for (let i = 0; i < 5_000; i++) await service.connection.publish("news", String(i), { confirm: i === 4_999 });
    while (seen.length < 5_000) await client.request("upper", "", { timeout: 5_000 });
    assert.deepEqual(seen, Array.from({ length: 5_000 }, (_, i) => i));
    await client.unsubscribe("news");
    await service.connection.publish("news", "1", { confirm: true });
    await client.request("upper", "");
    assert.equal(seen.length, 5_000);
    for (let i = 0; i < 100; i++) {
      await client.subscribe("news", () => {});
      await client.unsubscribe("news");
    }
    await assert.rejects(client.unsubscribe("news"), InvalidError);
  });

  it("tunnels: messages of any size, half-close, close, abort", async () => {
    const tunnel = await client.tunnel("upper", { headers: { a: "1" }, timeout: 5_000 });
    assert.equal(tunnel.headers["got"], "1");
    const messages = [0, 1, 65_535, 65_536, 65_537, 5_000_000].map((n) => randomBytes(n));
    const sending = (async () => {
      for (const message of messages) await tunnel.send(message);
      await tunnel.closeSend();
    })();
    const echoes: Buffer[] = [];
    for await (const echo of tunnel) echoes.push(echo);
    await sending;
    assert.equal(Buffer.compare(Buffer.concat(echoes), Buffer.concat(messages)), 0);
    assert.deepEqual(echoes.map((e) => e.length), messages.map((m) => m.length));
    await tunnel.close();
    const other = await client.tunnel("upper");
    other.abort("enough");
    await assert.rejects(other.send(""), ClosedError);
    await assert.rejects(client.tunnel("nobody"), NoServiceError);
  });

  it("a service at its limits leaves the rest to others, or it is overloaded", async () => {
    let called = 0;
    let release = (): void => {};
    const held = new Promise<void>((resolve) => { release = resolve; });
    const small = await register(iris.port, "small", { handleRequest: () => { called++; return held; }, handleTunnel: () => held },
      { ...options, limits: { requests: 1, requestQueue: 0, tunnels: 1 } });
    const first = client.request("small", "");
    while (called === 0) await client.request("upper", "");
    await assert.rejects(client.request("small", ""), OverloadedError);
    const tunnel = await client.tunnel("small");
    await assert.rejects(client.tunnel("small"), OverloadedError);
    release();
    await first;
    await tunnel.close();
    await small.unregister();
    await assert.rejects(client.request("small", ""), NoServiceError);
  });

  it("a node that is killed and comes back finds everybody again", async () => {
    const seen: string[] = [];
    await client.subscribe("again", (event) => { seen.push(event.payload.toString()); });
    const pending = client.request("upper", "wait");
    const lost = assert.rejects(pending, LostError);
    await client.request("upper", "");
    await iris.stop("SIGKILL");
    await lost;
    await iris.run();
    assert.equal((await attached()).toString(), "BACK");
    await client.publish("again", "1", { confirm: true });
    while (seen.length < 1) await client.request("upper", "", { timeout: 5_000 });
    assert.deepEqual(seen, ["1"]);
    await client.unsubscribe("again");
  });

  it("a node that leaves finishes what runs", async () => {
    const slow = await register(iris.port, "slow", { handleRequest: () => new Promise((resolve) => setTimeout(() => resolve("done"), 200)) }, options);
    const pending = client.request("slow", "");
    await client.request("upper", "");
    await iris.stop("SIGTERM");
    assert.equal((await pending).toString(), "done");
    await iris.run();
    await slow.unregister();
    await attached();
  });

  it("a drain leaves nothing behind", async () => {
    const leaving = await register(iris.port, "leaving", { handleRequest: () => new Promise((resolve) => setTimeout(() => resolve("ok"), 50)) }, options);
    const all = Array.from({ length: 50 }, () => client.request("leaving", ""));
    await client.request("upper", "").catch(() => {});
    await leaving.unregister();
    for (const reply of await Promise.all(all)) assert.equal(reply.toString(), "ok");
  });
});
