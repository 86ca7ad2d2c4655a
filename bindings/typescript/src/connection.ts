import { Attachment } from "./attachment.js";
import { InvalidError, type NoNodeError } from "./errors.js";
import { consoleLogger, type Logger } from "./logger.js";
import { bytesOf, checkHeaders, checkName, type Event, type Payload, type Reply } from "./message.js";
import type { Served } from "./session.js";
import { Topics, type TopicHandler, type TopicLimits } from "./topics.js";
import type { Tunnel } from "./tunnel.js";
import { waitFor, type WaitOptions } from "./waiter.js";
import { Kind, Op } from "./wire/codes.js";
import type { BroadcastFrame, Headers } from "./wire/frame.js";
import { encodeHeaders } from "./wire/output.js";

/** How to attach. */
export interface ConnectOptions {
  /** Milliseconds to attach in at first. Absent: 10,000. */
  timeout?: number | undefined;
  /** Gives up attaching; it means nothing to the connection afterwards. */
  signal?: AbortSignal | undefined;
  /** Milliseconds for which a lost node is looked for before the connection is given up. Absent: 30,000. 0: not at all. */
  reconnect?: number | undefined;
  /** Absent: warnings and errors go to the console. */
  logger?: Logger | undefined;
}

/** Options of a message: its headers, and how long to wait. */
export interface SendOptions extends WaitOptions {
  /** Travel with the message, such as a trace context: at most 64, within the node's limit of bytes. */
  headers?: Headers | undefined;
}

/** Options of a broadcast or an event. */
export interface TellOptions extends SendOptions {
  /** Wait for the node's word that the message is on its way; its errors are thrown then, relay.md 8.4. */
  confirm?: boolean | undefined;
}

/** @internal What a service adds to a connection. */
export interface ServiceDuties {
  readonly cluster: string;
  room(kind: number): number;
  request(served: Served): void;
  cancelled(served: Served): void;
  broadcast(frame: BroadcastFrame): void;
  offered(tunnel: Tunnel): void;
  dropped(reason: NoNodeError): void;
  close(): Promise<void>;
}

/**
 * Connection attaches the program to the node on its host, and attaches again when the node is lost: what was in flight
 * fails with a LostError, subscriptions are made again, operations meanwhile wait, bounded by their time. When the node
 * is given up they fail with a NoNodeError.
 */
export class Connection {
  /** Resolves when the connection is over: with undefined when this side closed it, with why when the node was given up. */
  readonly closed: Promise<NoNodeError | undefined>;
  /** @internal */
  readonly attachment: Attachment;
  readonly #topics: Topics;
  readonly #service: ServiceDuties | undefined;
  #over!: (reason: NoNodeError | undefined) => void;

  /** @internal */
  constructor(port: number, options: ConnectOptions & { silence?: number }, service?: ServiceDuties) {
    const log = options.logger ?? consoleLogger;
    const reconnect = options.reconnect ?? 30_000;
    this.closed = new Promise((resolve) => { this.#over = resolve; });
    this.#service = service;
    this.attachment = new Attachment({ port, cluster: service?.cluster ?? "", reconnect, log, silence: options.silence }, {
      room: (kind) => (kind === Kind.event ? this.#topics.room() : service!.room(kind)),
      request: (served) => service!.request(served),
      cancelled: (served) => service!.cancelled(served),
      broadcast: (frame) => service!.broadcast(frame),
      offered: (tunnel) => service!.offered(tunnel),
      event: (frame) => this.#topics.event(frame),
      attached: (session) => this.#topics.attached(session),
      dropped: (reason) => {
        this.#topics.end();
        this.#over(reason);
        service?.dropped(reason);
      },
    });
    this.#topics = new Topics(this.attachment, log);
  }

  /**
   * Asks one member of a cluster and returns the payload of its reply. A timeout travels with the request; an abort of
   * the signal cancels it. The error is a RemoteError (the service's own), TimeoutError, NoServiceError,
   * OverloadedError, LostError, CancelledError, TooLargeError, InvalidError, ClosingError, ClosedError or NoNodeError;
   * only after LostError, TimeoutError and CancelledError the service may have run.
   */
  async request(cluster: string, payload: Payload, options?: SendOptions): Promise<Buffer> {
    return (await this.call(cluster, payload, options)).payload;
  }

  /** Request that returns the headers of the reply as well. */
  call(cluster: string, payload: Payload, options?: SendOptions): Promise<Reply> {
    return waitFor<Reply>(`request to "${cluster}"`, options, (waiter) => {
      checkName(waiter.what, cluster);
      checkHeaders(waiter.what, options?.headers);
      const headers = encodeHeaders(options?.headers);
      const bytes = bytesOf(payload);
      this.attachment.submit(waiter, (session) => session.ask(waiter, cluster, headers, bytes));
    });
  }

  /**
   * Sends a message to every member of a cluster, this program's own service included if it is one. It resolves when the
   * message is handed over, or with `confirm` when the node has it on its way, and says nothing about members. Those
   * that are connected throughout get the broadcasts of one connection in their order, each at most once; one that is
   * too slow misses some. The errors are those of a request but for the service's own.
   */
  broadcast(cluster: string, message: Payload, options?: TellOptions): Promise<void> {
    return this.#tell(`broadcast to "${cluster}"`, Op.broadcast, cluster, message, options);
  }

  /** Sends an event to every subscriber of a topic, this connection included if it is one; else like broadcast. */
  publish(topic: string, event: Payload, options?: TellOptions): Promise<void> {
    return this.#tell(`publish to "${topic}"`, Op.publish, topic, event, options);
  }

  /**
   * Has handler called with every event that is published to the topic from now on: when it resolves, what any program
   * on any node publishes after that arrives (relay.md 9.3). Events that are published while the node is lost are
   * missed. The error is an InvalidError if there is a subscription already, LostError, OverloadedError beyond the
   * node's limit, TooLargeError, TimeoutError, CancelledError, ClosedError or NoNodeError; then there is none.
   */
  subscribe(topic: string, handler: TopicHandler, options?: TopicLimits & WaitOptions): Promise<void> {
    return this.#topics.subscribe(topic, handler, options);
  }

  /**
   * Ends the subscription of a topic: no further call of its handler starts, from now on. It may be called in that
   * handler. The error is an InvalidError if there is none. The loss of the node is no error.
   */
  unsubscribe(topic: string, options?: WaitOptions): Promise<void> {
    return this.#topics.unsubscribe(topic, options);
  }

  /**
   * Subscribes to a topic for as long as the loop over the events goes on; the next event is taken when the loop asks for
   * it. The loop ends when the connection is over, and throws a CancelledError when the signal is aborted.
   */
  async *events(topic: string, options?: TopicLimits & { signal?: AbortSignal }): AsyncGenerator<Event, void, undefined> {
    const signal = options?.signal;
    let give: ((event: Event | undefined) => void) | undefined;
    let want = new Promise<Event | undefined>((resolve) => { give = resolve; });
    let taken = (): void => {};
    const handler = (event: Event): Promise<void> => new Promise((resolve) => { taken = resolve; give!(event); });
    const stop = (): void => give!(undefined);
    await this.subscribe(topic, handler, { ...options, threads: 1 });
    signal?.addEventListener("abort", stop);
    void this.closed.then(stop);
    try {
      for (let event = await want; event !== undefined && !signal?.aborted; event = await want) {
        want = new Promise((resolve) => { give = resolve; });
        yield event;
        taken();
      }
      if (signal?.aborted) await waitFor<void>(`events of "${topic}"`, { signal }, () => {});
    } finally {
      signal?.removeEventListener("abort", stop);
      taken();
      await this.unsubscribe(topic).catch(() => {}); // it has ended with the connection, or by somebody else
    }
  }

  /**
   * Opens a tunnel to one member of a cluster and resolves when that has accepted it. Timeout and signal mean nothing to
   * the tunnel afterwards. The errors are those of a request.
   */
  tunnel(cluster: string, options?: SendOptions): Promise<Tunnel> {
    return waitFor<Tunnel>(`tunnel to "${cluster}"`, options, (waiter) => {
      checkName(waiter.what, cluster);
      checkHeaders(waiter.what, options?.headers);
      const headers = encodeHeaders(options?.headers);
      this.attachment.submit(waiter, (session) => session.tunnels.ask(waiter, cluster, headers));
    });
  }

  /**
   * Ends the connection: what is in flight and later fails with a ClosedError, tunnels are broken off, no further call
   * of a handler starts; those that run are not waited for. On the connection of a service it is the service's
   * unregister. Idempotent, and callable from handlers.
   */
  close(): Promise<void> { return this.#service ? this.#service.close() : this.end(); }

  [Symbol.asyncDispose](): Promise<void> { return this.close(); }

  /** @internal Ends at once, also that of a service. */
  end(): Promise<void> {
    this.#topics.end();
    const closed = this.attachment.close();
    this.#over(undefined);
    return closed;
  }

  #tell(
    what: string, op: typeof Op.broadcast | typeof Op.publish, name: string, message: Payload, options: TellOptions | undefined,
  ): Promise<void> {
    return waitFor<void>(what, options, (waiter) => {
      checkName(what, name);
      checkHeaders(what, options?.headers);
      const headers = encodeHeaders(options?.headers);
      const bytes = bytesOf(message);
      this.attachment.submit(waiter, (session) => {
        if (!options?.confirm) {
          session.tell(what, op, name, headers, bytes);
          return waiter.resolve();
        }
        session.tell(what, op, name, headers, bytes, (err) => (err ? waiter.reject(err) : waiter.resolve()));
      });
    });
  }
}

/**
 * Attaches a client to the node at port of this host, within 10 s if options say nothing else. The error is a
 * NoNodeError, RefusedError, ProtocolError, LostError, TimeoutError or CancelledError.
 */
export async function connect(port = 55_555, options: ConnectOptions = {}): Promise<Connection> {
  const connection = new Connection(port, options);
  await connection.attachment.open(options.timeout ?? 10_000, options.signal);
  return connection;
}

/** @internal */
export function checkCluster(cluster: string): void {
  if (typeof cluster !== "string" || cluster === "") throw new InvalidError("register: the name of the cluster is empty");
}
