import { lstat } from "node:fs/promises";
import net from "node:net";
import path from "node:path";
import { InvalidError, NoNodeError } from "./errors.js";
import type { Logger } from "./logger.js";

/** What decides where a node's Unix socket is looked for, relay.md 1.3. uid: undefined where there are no such sockets. */
export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly uid: number | undefined;
}

/** The folders that may hold a node's socket, in the order of relay.md 1.3. */
export function socketFolders({ env, uid }: Surroundings): string[] {
  if (uid === undefined) return [];
  if (env["IRIS_RUNTIME_DIR"]) return [env["IRIS_RUNTIME_DIR"]];
  const root = "/run/iris";
  if (uid === 0) return [root];
  const own = env["XDG_RUNTIME_DIR"]
    ? path.join(env["XDG_RUNTIME_DIR"], "iris")
    : path.join(env["TMPDIR"] || "/tmp", `iris-${uid}`);
  return [own, root];
}

/** Says why a client must not use a socket in the folder, relay.md 1.4; undefined: it may. */
export async function mistrust(folder: string, uid: number | undefined): Promise<string | undefined> {
  const info = await lstat(folder).catch(() => undefined);
  if (info === undefined) return "it is missing";
  if (info.isSymbolicLink()) return "it is a symbolic link";
  if (!info.isDirectory()) return "it is no folder";
  if (info.uid !== uid && info.uid !== 0) return "it belongs to another user";
  if ((info.mode & 0o022) !== 0) return "others can write to it";
  return undefined;
}

/** How bytes from the node are taken: the first n of a buffer that is used again. */
export type Intake = (n: number, buf: Buffer) => void;

const READ = 65_536;

/**
 * Connects to the node at port: its Unix sockets first, then 127.0.0.1, then ::1 (relay.md 1.2). The socket's bytes go
 * to intake. A NoNodeError says that nobody listens; an abort of signal rejects with its reason.
 */
export async function dial(port: number, intake: Intake, log: Logger, signal: AbortSignal): Promise<net.Socket> {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new InvalidError(`the port ${port} does not exist`);
  const uid = process.getuid?.();
  const tried: string[] = [];
  for (const folder of socketFolders({ env: process.env, uid })) {
    const reason = await mistrust(folder, uid);
    if (reason !== undefined) {
      log.debug("a folder for sockets is not used", { folder, reason });
      continue;
    }
    const socket = await attempt({ path: path.join(folder, `${port}.sock`) }, intake, signal).catch(note(tried, signal));
    if (socket) return socket;
  }
  for (const host of ["127.0.0.1", "::1"]) {
    const socket = await attempt({ host, port, noDelay: true }, intake, signal).catch(note(tried, signal));
    if (socket) return socket;
  }
  throw new NoNodeError(`no iris node at port ${port}`, { cause: new Error(tried.join("; ")) });
}

function note(tried: string[], signal: AbortSignal): (err: Error) => undefined {
  return (err) => {
    if (signal.aborted) throw signal.reason;
    tried.push(err.message);
  };
}

function attempt(where: net.NetConnectOpts, intake: Intake, signal: AbortSignal): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const onread = { buffer: Buffer.allocUnsafeSlow(READ), callback: (n: number, buf: Uint8Array) => { intake(n, buf as Buffer); return true; } };
    const socket = net.connect({ ...where, onread });
    const stop = (): void => { socket.destroy(signal.reason as Error); };
    const settle = (): void => {
      signal.removeEventListener("abort", stop);
      socket.off("connect", connected);
    };
    const connected = (): void => { settle(); socket.off("error", failed); resolve(socket); };
    const failed = (err: Error): void => { settle(); reject(err); };
    signal.addEventListener("abort", stop);
    socket.on("connect", connected);
    socket.on("error", failed);
  });
}
