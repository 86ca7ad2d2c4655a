// The subject of this binding for `iris-conformance binding`, see conformance/docs/subject.md: each command is one call.
import { createInterface } from "node:readline";
import {
  CancelledError, ClosedError, IrisError, RefusedError, connect, register,
  type Connection, type Message, type Service, type Tunnel,
} from "../src/index.js";

interface Command {
  id: number; op: string; conn: string; port: number; cluster: string; topic: string; tunnel: string; request: string;
  payload?: string; headers?: Record<string, string>; timeout_ms?: number; reconnect_ms?: number; command: number;
  error?: string; how: "finish" | "close" | "abort"; reason?: string;
  limits?: { requests?: number; queue?: number; tunnels?: number };
}
type Answer = Record<string, unknown> | void;

const outcomes = new Set(["timeout", "no-service", "overloaded", "lost", "failed", "cancelled", "closing", "invalid", "closed",
  "too-large", "no-node", "protocol"]);
const refusals = new Set(["version", "feature", "name", "limit", "not-ready"]);
const features = ["request", "service", "broadcast", "topic", "tunnel", "headers", "message-headers", "tunnel-headers", "reconnect",
  "drain", "limits", "cancel"];
const logger = Object.fromEntries(["debug", "info", "warn", "error"].map((level) =>
  [level, (message: string, fields?: object) => console.error(level, message, fields ?? "")])) as never;

const connections = new Map<string, Connection>();
const services = new Map<string, Service>();
const tunnels = new Map<string, Tunnel>();
const replies = new Map<string, (command: Command) => void>(); // by request
const running = new Map<number, AbortController>(); // by command
const given = new Map<string, Tunnel[]>(); // tunnels that a service was given and that were not accepted, by conn
const takers = new Map<string, ((tunnel: Tunnel) => void)[]>();
let names = 0;

const say = (line: object): void => void process.stdout.write(JSON.stringify(line) + "\n");
const bytes = (c: Command): Buffer => Buffer.from(c.payload ?? "", "base64");
const told = (m: Message): object => ({ payload: m.payload.toString("base64"), headers: m.headers });
const found = <T>(table: Map<string, T>, name: string): T => {
  const value = table.get(name);
  if (value === undefined) throw new ClosedError(`there is no "${name}"`);
  return value;
};

function attached(conn: string, connection: Connection): void {
  connections.set(conn, connection);
  void connection.closed.then((reason) => { if (reason) say({ notice: "dropped", conn, text: reason.message }); });
}

async function attachService(c: Command): Promise<void> {
  const { conn } = c;
  given.set(conn, []);
  takers.set(conn, []);
  const service = await register(c.port, c.cluster, {
    init: (connection) => attached(conn, connection),
    handleRequest: (request) => new Promise((resolve, reject) => {
      const name = `request ${++names}`;
      const budget = Number.isFinite(request.timeLeft) ? { budget_ms: Math.ceil(request.timeLeft) } : {};
      replies.set(name, (r) => {
        if (r.error !== undefined) reject(new Error(r.error));
        else resolve({ payload: bytes(r), headers: r.headers ?? {} });
      });
      request.signal.addEventListener("abort", () => { say({ notice: "cancelled", request: name }); reject(new Error("stopped")); });
      say({ notice: "request", conn, request: name, ...told(request), ...budget });
    }),
    handleBroadcast: (message) => say({ notice: "broadcast", conn, ...told(message) }),
    handleTunnel: (tunnel) => {
      const taker = takers.get(conn)!.shift();
      if (taker) taker(tunnel);
      else given.get(conn)!.push(tunnel);
      return tunnel.ended;
    },
  }, { reconnect: c.reconnect_ms, logger, limits: { requests: c.limits?.requests, requestQueue: c.limits?.queue, tunnels: c.limits?.tunnels } });
  services.set(conn, service);
}

async function nextTunnel(c: Command, signal: AbortSignal): Promise<Tunnel> {
  const waiting = found(given, c.conn).shift();
  if (waiting) return waiting;
  return new Promise((resolve, reject) => {
    takers.get(c.conn)!.push(resolve);
    const stop = (err: IrisError): void => {
      takers.set(c.conn, takers.get(c.conn)!.filter((taker) => taker !== resolve));
      reject(err);
    };
    signal.addEventListener("abort", () => stop(new CancelledError("cancelled")));
    if (c.timeout_ms !== undefined) setTimeout(() => stop(new IrisError("timeout", "no tunnel came")), c.timeout_ms).unref();
  });
}

const ops: Record<string, (c: Command, signal: AbortSignal) => Answer | Promise<Answer>> = {
  info: () => ({ name: "@project-iris/iris", version: "0.1.0", language: "TypeScript", protocol: [1], features }),
  connect: async (c) => attached(c.conn, await connect(c.port, { reconnect: c.reconnect_ms, logger })),
  register: (c) => attachService(c),
  request: async (c, signal) => ({
    ...told(await found(connections, c.conn).call(c.cluster, bytes(c), { headers: c.headers, timeout: c.timeout_ms, signal })),
  }),
  cancel: (c) => running.get(c.command)?.abort(),
  reply: (c) => { found(replies, c.request)(c); replies.delete(c.request); },
  broadcast: (c, signal) => found(connections, c.conn).broadcast(c.cluster, bytes(c), { headers: c.headers, signal }),
  publish: (c, signal) => found(connections, c.conn).publish(c.topic, bytes(c), { headers: c.headers, signal }),
  subscribe: (c, signal) => found(connections, c.conn).subscribe(
    c.topic, (event) => say({ notice: "event", conn: c.conn, topic: event.topic, ...told(event) }), { signal }),
  unsubscribe: (c, signal) => found(connections, c.conn).unsubscribe(c.topic, { signal }),
  "tunnel-open": async (c, signal) => {
    const tunnel = await found(connections, c.conn).tunnel(c.cluster, { headers: c.headers, timeout: c.timeout_ms, signal });
    tunnels.set(c.tunnel, tunnel);
    return { headers: tunnel.headers };
  },
  "tunnel-accept": async (c, signal) => {
    const tunnel = await nextTunnel(c, signal);
    tunnels.set(c.tunnel, tunnel);
    return { headers: tunnel.headers };
  },
  "tunnel-send": (c, signal) => found(tunnels, c.tunnel).send(bytes(c), { timeout: c.timeout_ms, signal }),
  "tunnel-recv": async (c, signal) => {
    const message = await found(tunnels, c.tunnel).recv({ timeout: c.timeout_ms, signal });
    if (message === null) throw Object.assign(new Error("the other side has finished"), { code: "end" });
    return { payload: message.toString("base64") };
  },
  "tunnel-close": (c) => {
    const tunnel = found(tunnels, c.tunnel);
    return c.how === "finish" ? tunnel.closeSend() : c.how === "close" ? tunnel.close() : tunnel.abort(c.reason);
  },
  drain: (c) => found(services, c.conn).unregister(),
  close: (c) => services.get(c.conn)?.abort() ?? found(connections, c.conn).close(),
};

function failure(id: number, err: unknown): object {
  const { code, message } = err as IrisError;
  const known = outcomes.has(code) || (err as { code: string }).code === "end" || (err instanceof RefusedError && refusals.has(code));
  return { id, error: known ? code : "other", text: message };
}

async function play(line: string): Promise<void> {
  let c: Command | undefined;
  try { c = JSON.parse(line) as Command; } catch { /* it is told below */ }
  if (typeof c?.id !== "number" || typeof c.op !== "string") return say({ id: Number(c?.id) || 0, error: "bad-command" });
  const op = Object.hasOwn(ops, c.op) ? ops[c.op] : undefined;
  if (!op) return say({ id: c.id, error: "unsupported", text: c.op });
  const abort = new AbortController();
  running.set(c.id, abort);
  await (async () => op(c, abort.signal))().then((ok) => say({ id: c.id, ok: ok ?? {} }), (err) => say(failure(c.id, err)));
  running.delete(c.id);
}

createInterface({ input: process.stdin }).on("line", (line) => void play(line)).on("close", () => {
  const ends = [...[...services.values()].map((s) => s.abort()), ...[...connections.values()].map((c) => c.close())];
  void Promise.race([Promise.allSettled(ends), new Promise((resolve) => setTimeout(resolve, 2_000))]).then(() => process.exit(0));
});
