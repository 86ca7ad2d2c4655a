// The conformance subject against a real node: set IRIS_BINARY to the iris binary.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { it } from "node:test";
import { fileURLToPath } from "node:url";
import { bounded } from "./fakenode.js";
import { Iris, binary } from "./iris.js";

type Line = Record<string, unknown> & { id?: number; notice?: string; ok?: Record<string, unknown>; error?: string; text?: string };

const b64 = (text: string): string => Buffer.from(text).toString("base64");

it("the subject does what it is told", { skip: binary ? false : "IRIS_BINARY is not set" }, async () => {
  await using iris = await Iris.start();
  const child = spawn(process.execPath, [fileURLToPath(new URL("../conformance/subject.js", import.meta.url))], { stdio: ["pipe", "pipe", "ignore"] });
  const waiting = new Map<string, (line: Line) => void>();
  const early = new Map<string, Line[]>();
  const put = (key: string, line: Line): void => {
    const taker = waiting.get(key);
    waiting.delete(key);
    if (taker) taker(line);
    else early.set(key, [...(early.get(key) ?? []), line]);
  };
  const take = (key: string): Promise<Line> => {
    const line = early.get(key)?.shift();
    return line ? Promise.resolve(line) : bounded(key, new Promise((resolve) => waiting.set(key, resolve)));
  };
  createInterface({ input: child.stdout }).on("line", (text) => {
    const line = JSON.parse(text) as Line;
    put(line.notice ?? `answer ${line.id}`, line);
  });
  let ids = 0;
  const begin = (op: string, fields: object = {}): number => {
    child.stdin.write(JSON.stringify({ id: ++ids, op, ...fields }) + "\n");
    return ids;
  };
  const tell = (op: string, fields: object = {}): Promise<Line> => take(`answer ${begin(op, fields)}`);
  const ok = async (op: string, fields: object = {}): Promise<Record<string, unknown>> => {
    const line = await tell(op, fields);
    assert.ok(line.ok, JSON.stringify(line));
    return line.ok;
  };

  assert.equal((await ok("info"))["language"], "TypeScript");
  assert.equal((await tell("invented")).error, "unsupported");
  assert.equal((await tell("toString")).error, "unsupported");
  child.stdin.write("what?\n");
  assert.equal((await take("answer 0")).error, "bad-command");
  await ok("register", { conn: "s", port: iris.port, cluster: "upper" });
  await ok("connect", { conn: "a", port: iris.port });
  assert.equal((await tell("request", { conn: "a", cluster: "nobody", payload: "" })).error, "no-service");

  const asked = begin("request", { conn: "a", cluster: "upper", payload: b64("hi"), headers: { a: "1" }, timeout_ms: 5_000 });
  const request = await take("request");
  assert.deepEqual([request["conn"], request["payload"], request["headers"]], ["s", b64("hi"), { a: "1" }]);
  assert.ok(Number(request["budget_ms"]) > 4_000);
  await ok("reply", { request: request["request"], payload: b64("HI"), headers: { b: "2" } });
  assert.deepEqual((await take(`answer ${asked}`)).ok, { payload: b64("HI"), headers: { b: "2" } });

  const failing = begin("request", { conn: "a", cluster: "upper", payload: "" });
  await ok("reply", { request: (await take("request"))["request"], error: "no" });
  const failed = await take(`answer ${failing}`);
  assert.deepEqual([failed.error, failed.text], ["failed", "no"]);

  const given = begin("request", { conn: "a", cluster: "upper", payload: "" });
  const running = await take("request");
  await ok("cancel", { command: given });
  assert.equal((await take(`answer ${given}`)).error, "cancelled");
  assert.equal((await take("cancelled"))["request"], running["request"]);

  await ok("subscribe", { conn: "a", topic: "news" });
  await ok("publish", { conn: "s", topic: "news", payload: b64("x") });
  assert.deepEqual((await take("event"))["payload"], b64("x"));
  await ok("unsubscribe", { conn: "a", topic: "news" });
  assert.equal((await tell("unsubscribe", { conn: "a", topic: "news" })).error, "invalid");
  await ok("broadcast", { conn: "a", cluster: "upper", payload: b64("y"), headers: { c: "3" } });
  assert.deepEqual((await take("broadcast"))["headers"], { c: "3" });

  assert.equal((await tell("tunnel-accept", { conn: "s", tunnel: "none", timeout_ms: 10 })).error, "timeout");
  const accepting = begin("tunnel-accept", { conn: "s", tunnel: "ts" });
  await ok("tunnel-open", { conn: "a", tunnel: "ta", cluster: "upper", headers: { d: "4" } });
  assert.deepEqual((await take(`answer ${accepting}`)).ok, { headers: { d: "4" } });
  await ok("tunnel-send", { tunnel: "ta", payload: b64("z") });
  assert.equal((await ok("tunnel-recv", { tunnel: "ts" }))["payload"], b64("z"));
  await ok("tunnel-close", { tunnel: "ta", how: "finish" });
  assert.equal((await tell("tunnel-recv", { tunnel: "ts" })).error, "end");
  await ok("tunnel-close", { tunnel: "ts", how: "abort", reason: "why" });
  const aborted = await tell("tunnel-recv", { tunnel: "ta" });
  assert.deepEqual([aborted.error, aborted.text], ["failed", "why"]);

  await ok("drain", { conn: "s" });
  assert.equal((await tell("request", { conn: "a", cluster: "upper", payload: "" })).error, "no-service");
  await ok("connect", { conn: "b", port: iris.port, reconnect_ms: 0 });
  await iris.stop("SIGKILL");
  assert.equal((await take("dropped"))["conn"], "b");
  assert.equal((await tell("request", { conn: "b", cluster: "upper", payload: "" })).error, "no-node");
  child.stdin.end();
  const [code] = (await bounded("the end", once(child, "exit"))) as [number];
  assert.equal(code, 0);
});
