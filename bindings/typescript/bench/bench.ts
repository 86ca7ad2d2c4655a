// Measures the binding against a real node: IRIS_PORT=… node dist/bench/bench.js [seconds]. Prints one line per case.
import { connect, register } from "../src/index.js";

const port = Number(process.env["IRIS_PORT"]);
const span = 1_000 * Number(process.argv[2] ?? 2);

async function rate(name: string, unit: string, work: (over: () => boolean) => Promise<number>): Promise<void> {
  const begin = performance.now();
  const n = await work(() => performance.now() - begin > span);
  const seconds = (performance.now() - begin) / 1_000;
  console.log(`${name}: ${Math.round(n / seconds).toLocaleString("en")} ${unit}`);
}

const payload = Buffer.alloc(64, 1);
const role = process.env["ROLE"] ?? "both";
const serves = role !== "client";
const service = serves ? await register(port, "bench", {
  handleRequest: (request) => request.payload,
  async handleTunnel(tunnel) { for await (const _ of tunnel); },
}) : undefined;
if (role === "service") await new Promise(() => {});
const client = await connect(port);

for (const lanes of [1, 64]) {
  await rate(`request, 64 B, ${lanes} in flight`, "a second", async (over) => {
    let n = 0;
    const lane = async (): Promise<void> => {
      for (; !over(); n++) await client.request("bench", payload, { timeout: 5_000 });
    };
    await Promise.all(Array.from({ length: lanes }, lane));
    return n;
  });
}

let events = 0;
const event = Buffer.alloc(128, 1);
const reader = await connect(port);
await reader.subscribe("bench", () => { events++; });
if (process.env["EVENTS"]) { // from `iris bench publish` or the like
  await rate("events received, 128 B", "a second", async (over) => {
    while (!over()) await new Promise((resolve) => setTimeout(resolve, 50));
    return events;
  });
}
events = 0;
await rate("published and received in one process, 128 B", "received a second", async (over) => {
  let sent = 0;
  while (!over()) {
    for (let i = 0; i < 500; i++) void client.publish("bench", event);
    sent += 500;
    while (sent - events > 8_000 && !over()) await new Promise((resolve) => setImmediate(resolve));
  }
  return events;
});

const chunk = Buffer.alloc(65_536, 1);
await rate("tunnel, 64 KiB messages, MiB", "a second", async (over) => {
  const tunnel = await client.tunnel("bench");
  let n = 0;
  for (; !over(); n++) await tunnel.send(chunk);
  await tunnel.close();
  return n / 16;
});

await Promise.all([reader.close(), client.close(), service?.unregister()]);
