import assert from "node:assert/strict";
import { it } from "node:test";
import { Tally, callHandler } from "../src/calls.js";
import { Fifo } from "../src/fifo.js";
import { Pool } from "../src/pool.js";
import { quiet } from "./quiet.js";

it("a pool runs so many at once, in order, within its memory, and tells its room", async () => {
  const ends: (() => void)[] = [];
  const ran: number[] = [];
  const pool = new Pool<{ n: number }>({ threads: 2, queue: 2, memory: 100 }, ({ n }) => {
    ran.push(n);
    return new Promise((resolve) => ends.push(resolve));
  });
  const items = [0, 1, 2, 3, 4].map((n) => ({ n }));
  assert.equal(pool.offer(items[0]!, 1_000), true, "one alone may exceed the memory");
  assert.deepEqual([pool.room, pool.offer(items[1]!, 1)], [0, false]);
  ends[0]!();
  await pool.idle();
  assert.equal(pool.room, 4);
  for (const item of items.slice(1, 5)) assert.equal(pool.offer(item, 10), true);
  assert.equal(pool.offer({ n: 5 }, 0), false, "full");
  assert.equal(pool.withdraw(items[3]!), true);
  assert.equal(pool.withdraw(items[1]!), false, "it runs");
  assert.equal(pool.room, 1);
  ends[1]!();
  ends[2]!();
  while (ends.length < 4) await new Promise((resolve) => setImmediate(resolve));
  ends[3]!();
  await pool.idle();
  assert.deepEqual(ran, [0, 1, 2, 4]);
});

it("a handler may be plain, a promise, any thenable, and may throw", async () => {
  const said: unknown[] = [];
  const call = (handler: () => unknown) => callHandler(handler, (r) => { said.push(r); }, (err) => { said.push(`failed: ${String(err)}`); });
  assert.equal(call(() => 1), undefined);
  await call(() => Promise.resolve(2));
  await call(() => ({ then: (resolve: (n: number) => void) => resolve(3) }));
  call(() => { throw "x"; });
  await call(() => Promise.reject("y"));
  assert.deepEqual(said, [1, 2, 3, "failed: x", "failed: y"]);
});

it("what happens per message is told once a minute", () => {
  const lines: unknown[] = [];
  const tally = new Tally({ ...quiet, warn: (message, fields) => lines.push([message, fields]) }, "dropped", { topic: "t" });
  for (let i = 0; i < 1_000; i++) tally.add(new Error("why"));
  assert.deepEqual(lines, [["dropped", { topic: "t", count: 1, err: "why" }]]);
});

it("a fifo keeps its order, whatever is taken out", () => {
  const fifo = new Fifo<number>();
  const want: number[] = [];
  for (let i = 0; i < 1_000; i++) {
    fifo.push(i);
    want.push(i);
    if (i % 3 === 0) assert.equal(fifo.shift(), want.shift());
    if (i % 7 === 0 && want.length > 2) assert.equal(fifo.remove(want.splice(1, 1)[0]!), true);
  }
  assert.equal(fifo.remove(-1), false);
  assert.deepEqual([fifo.length, fifo.peek()], [want.length, want[0]]);
  assert.deepEqual(fifo.clear(), want);
  assert.equal(fifo.shift(), undefined);
});
