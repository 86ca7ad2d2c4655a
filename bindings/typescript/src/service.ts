import { Tally, callHandler, textOf } from "./calls.js";
import { Connection, checkCluster, type ConnectOptions, type ServiceDuties } from "./connection.js";
import { TimeoutError, type IrisError, type NoNodeError } from "./errors.js";
import { consoleLogger, type Logger } from "./logger.js";
import { bytesOf, checkHeaders, checkSizes, type Message, type Payload } from "./message.js";
import { Pool } from "./pool.js";
import type { Request } from "./request.js";
import type { Served } from "./session.js";
import type { Tunnel } from "./tunnel.js";
import { waitFor, type WaitOptions } from "./waiter.js";
import { Code, Kind } from "./wire/codes.js";
import type { BroadcastFrame, Headers } from "./wire/frame.js";
import { encodeHeaders } from "./wire/output.js";

/** What a handler replies: bytes, text, both with headers, or nothing, which is an empty reply. */
export type HandlerReply = Payload | { readonly payload?: Payload; readonly headers?: Headers } | undefined | void;

/** What a program implements to serve. Handlers that return promises run at the same time. */
export interface ServiceHandler {
  /** Called once, before the first request is taken; connection works already. What it throws makes register fail. */
  init?(connection: Connection): void | Promise<void>;
  /** Answers one request. What it throws reaches the requester as a RemoteError of its message. Absent: no requests are taken. */
  handleRequest?(request: Request): HandlerReply | Promise<HandlerReply>;
  /** Gets a message to all members of the cluster. */
  handleBroadcast?(message: Message): void | Promise<void>;
  /** Asked before a tunnel is accepted: gives the headers of the acceptance; what it throws refuses the tunnel. */
  acceptTunnel?(offer: { readonly headers: Headers }): Headers | void | Promise<Headers | void>;
  /** Gets a tunnel that is accepted; it is closed when the handler has returned, and aborted when it throws. */
  handleTunnel?(tunnel: Tunnel): void | Promise<void>;
  /** Called once if the node is lost and given up; not after unregister, abort or close. */
  handleDrop?(reason: NoNodeError): void;
}

/** Bounds of what a service takes on at once. Requests and tunnels beyond them go to other members, or fail as overloaded. */
export interface ServiceLimits {
  /** Request handlers at once. Absent: 1,024. */
  requests?: number | undefined;
  /** Requests that may wait for a handler besides. Absent: 1,024. 0: none. */
  requestQueue?: number | undefined;
  /** Bytes of requests that run or wait; one alone may exceed it. Fewer are taken the nearer they come. Absent: 64 MiB. */
  requestMemory?: number | undefined;
  /** Broadcasts handled at once. Absent: 1, so that those of one sender are handled in their order. */
  broadcasts?: number | undefined;
  /** Broadcasts that may wait besides; further ones are dropped. Absent: 16,384. */
  broadcastQueue?: number | undefined;
  /** Bytes of broadcasts that wait or are handled; what exceeds it is dropped. Absent: 64 MiB. */
  broadcastMemory?: number | undefined;
  /** Tunnels to the service that may be open. Absent: 16,384. */
  tunnels?: number | undefined;
}

/** How to register. */
export interface RegisterOptions extends ConnectOptions {
  limits?: ServiceLimits | undefined;
}

/** How long unregister waits for handlers, in ms. */
const PATIENCE = 10_000;

/** Service is a member of a cluster. */
export class Service {
  readonly cluster: string;
  /** The service's own connection, for all that a client can do. */
  readonly connection: Connection;
  readonly #handler: ServiceHandler;
  readonly #log: Logger;
  readonly #requests: Pool<Served>;
  readonly #broadcasts: Pool<BroadcastFrame>;
  readonly #drops: Tally;
  readonly #failures: Tally;
  readonly #tunnels = new Set<Tunnel>();
  readonly #mostTunnels: number;
  #ready = false;
  #made!: () => void;
  readonly #init = new Promise<void>((resolve) => { this.#made = resolve; });
  #tunnelsGone: () => void = () => {};
  #ending: Promise<void> | undefined;

  /** @internal */
  constructor(port: number, cluster: string, handler: ServiceHandler, options: RegisterOptions & { silence?: number }) {
    this.cluster = cluster;
    this.#handler = handler;
    this.#log = options.logger ?? consoleLogger;
    const limits = options.limits ?? {};
    this.#mostTunnels = limits.tunnels ?? 16_384;
    this.#requests = new Pool(
      { threads: limits.requests ?? 1_024, queue: limits.requestQueue ?? 1_024, memory: limits.requestMemory ?? 64 << 20 },
      (served) => this.#serve(served));
    this.#broadcasts = new Pool(
      { threads: limits.broadcasts ?? 1, queue: limits.broadcastQueue ?? 16_384, memory: limits.broadcastMemory ?? 64 << 20 },
      (message) => this.#hear(message));
    this.#drops = new Tally(this.#log, "broadcasts were dropped", { cluster });
    this.#failures = new Tally(this.#log, "handleBroadcast failed", { cluster });
    this.connection = new Connection(port, options, this.#duties());
    this.#requests.onRelease = this.#broadcasts.onRelease = () => this.connection.attachment.session?.channel.touch();
  }

  /**
   * Leaves the cluster: nothing new is taken, what was taken is handled, handlers finish, those of tunnels included, and
   * the connection is closed. After `timeout` ms (10,000) it ends as by abort, a TimeoutError. The loss of the node is
   * no error. Idempotent: every caller waits for the same end; a handler must not wait for it, because it is one of
   * those that it waits for.
   */
  unregister(options?: WaitOptions): Promise<void> {
    return (this.#ending ??= this.#drain({ timeout: PATIENCE, ...options }));
  }

  [Symbol.asyncDispose](): Promise<void> { return this.unregister(); }

  /** Ends the service at once: signals of its requests are aborted, their requesters get a LostError. Idempotent. */
  abort(): Promise<void> {
    this.#requests.clear();
    this.#broadcasts.clear();
    this.#ending ??= Promise.resolve();
    return this.connection.end();
  }

  /** @internal */
  async start(options: ConnectOptions): Promise<void> {
    await this.connection.attachment.open(options.timeout ?? 10_000, options.signal);
    try {
      await this.#handler.init?.(this.connection);
    } catch (err) {
      await this.abort();
      throw err;
    }
    this.#ready = true;
    this.#made();
    await this.connection.attachment.session?.settle(); // the node has the credit when this resolves
  }

  #duties(): ServiceDuties {
    return {
      cluster: this.cluster,
      room: (kind) => this.#room(kind),
      request: (served) => {
        const { payload } = served.request;
        if (this.#requests.offer(served, payload.length)) return;
        served.reply(Code.failed, "the service has no memory left for the request", encodeHeaders(undefined), payload.subarray(0, 0));
      },
      cancelled: (served) => { this.#requests.withdraw(served); },
      broadcast: (frame) => { if (!this.#broadcasts.offer(frame, frame.payload.length)) this.#drops.add(); },
      offered: (tunnel) => void this.#offered(tunnel),
      dropped: (reason) => {
        this.#ending ??= Promise.resolve();
        callHandler(() => this.#handler.handleDrop?.(reason), () => {}, (err) => this.#log.error("handleDrop failed", { err: textOf(err) }));
      },
      close: () => this.unregister(),
    };
  }

  #room(kind: number): number {
    if (!this.#ready) return 0;
    if (kind === Kind.request) return this.#handler.handleRequest ? this.#requests.room : 0;
    return this.#handler.handleBroadcast ? this.#broadcasts.room : 0;
  }

  #serve(served: Served): void | Promise<void> {
    return callHandler<HandlerReply>(
      () => this.#handler.handleRequest!(served.request),
      (reply) => this.#reply(served, reply),
      (err) => this.#fail(served, textOf(err)));
  }

  #reply(served: Served, reply: HandlerReply): void {
    served.request.returned();
    try {
      const plain = reply === undefined || typeof reply === "string" || reply instanceof Uint8Array;
      const payload = bytesOf(plain ? (reply as Payload | undefined) : reply.payload);
      const given = plain ? undefined : reply.headers;
      checkHeaders("the reply", given);
      const headers = encodeHeaders(given);
      checkSizes("the reply", served.limits, "", headers, payload); // relay.md 4.4
      served.reply(Code.ok, "", headers, payload);
    } catch (err) {
      this.#fail(served, textOf(err));
    }
  }

  #fail(served: Served, text: string): void {
    served.request.returned();
    served.reply(Code.failed, text, encodeHeaders(undefined), Buffer.alloc(0));
  }

  #hear(frame: BroadcastFrame): void | Promise<void> {
    return callHandler<void>(
      () => this.#handler.handleBroadcast!(frame),
      () => {},
      (err) => this.#failures.add(err));
  }

  async #offered(tunnel: Tunnel): Promise<void> {
    if (!this.#handler.handleTunnel) return tunnel.refuse(Code.failed, "the service takes no tunnels");
    if (this.#tunnels.size >= this.#mostTunnels) return tunnel.refuse(Code.overloaded, "the service is at its limit of tunnels");
    this.#tunnels.add(tunnel);
    try {
      await this.#init;
      const headers = await this.#handler.acceptTunnel?.(tunnel);
      checkHeaders("the acceptance", headers ?? undefined);
      if (tunnel.accept(headers ?? undefined)) {
        await this.#handler.handleTunnel(tunnel);
        await tunnel.close().catch((err: IrisError) => this.#log.debug("a tunnel broke off", { err: err.message }));
      }
    } catch (err) {
      this.#log.debug("handleTunnel failed", { cluster: this.cluster, err: textOf(err) });
      tunnel.abort(textOf(err));
    } finally {
      this.#tunnels.delete(tunnel);
      if (this.#tunnels.size === 0) this.#tunnelsGone();
    }
  }

  async #drain(options: WaitOptions): Promise<void> {
    const { attachment } = this.connection;
    const quiet = async (): Promise<void> => {
      attachment.retire();
      await attachment.session?.drain();
      await Promise.all([this.#requests.idle(), this.#broadcasts.idle(), this.#noTunnels()]);
    };
    try {
      await waitFor<void>(`unregister from "${this.cluster}"`, options, (waiter) => {
        quiet().then(() => waiter.resolve(), (err: Error) => waiter.reject(err));
      });
    } catch (err) {
      await this.abort();
      if (!(err instanceof TimeoutError)) throw err;
      throw new TimeoutError(`unregister from "${this.cluster}": handlers were still running`, { cause: err });
    }
    await this.connection.end();
  }

  #noTunnels(): Promise<void> {
    return this.#tunnels.size === 0 ? Promise.resolve() : new Promise((resolve) => { this.#tunnelsGone = resolve; });
  }
}

/**
 * Joins a cluster with a service that handler implements, at the node at port of this host: when it resolves, the service
 * takes requests. The error is that of connect, of init, or an InvalidError for an empty name.
 */
export async function register(port: number, cluster: string, handler: ServiceHandler, options: RegisterOptions = {}): Promise<Service> {
  checkCluster(cluster);
  const service = new Service(port, cluster, handler, options);
  await service.start(options);
  return service;
}
