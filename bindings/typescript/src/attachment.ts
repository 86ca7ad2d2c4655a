import { dial } from "./endpoint.js";
import { CancelledError, ClosedError, NoNodeError, OverloadedError, RefusedError, TimeoutError, type IrisError } from "./errors.js";
import type { Logger } from "./logger.js";
import { Session, type Duties } from "./session.js";
import type { Waiter } from "./waiter.js";

/** Operations that may wait for the node, or for room towards it. */
const MOST_WAITING = 65_536;

const FIRST_PAUSE = 50; // ms
const LAST_PAUSE = 1_000;

/** What an attachment is for. */
export interface Owner extends Omit<Duties, "leaving" | "writable" | "ended"> {
  /** A session is open: nothing was sent on it yet. Called before waiting operations go on. */
  attached(session: Session): void;
  /** The node is lost and given up. */
  dropped(reason: NoNodeError): void;
}

export interface AttachmentConfig {
  readonly port: number;
  /** Empty: a client. */
  readonly cluster: string;
  /** For how long a lost node is looked for, ms. */
  readonly reconnect: number;
  readonly log: Logger;
  /** See SILENCE. */
  readonly silence?: number | undefined;
}

interface Waiting {
  readonly waiter: Waiter<never>;
  readonly act: (session: Session) => void;
}

/** Attachment keeps a session with the node: when it is lost, another, for as long as the config says. */
export class Attachment {
  readonly #config: AttachmentConfig;
  readonly #owner: Owner;
  readonly #waiting = new Set<Waiting>();
  readonly #stop = new AbortController();
  #session: Session | undefined; // that takes new operations
  readonly #leaving = new Set<Session>(); // that finish what they have
  #gone: ((what: string) => IrisError) | undefined;
  #retired = false;
  #closing: Promise<void> | undefined;

  constructor(config: AttachmentConfig, owner: Owner) {
    this.#config = config;
    this.#owner = owner;
  }

  /** The session that takes new operations, if there is one now. */
  get session(): Session | undefined { return this.#session; }

  /** Attaches for the first time, within so many ms. */
  async open(timeout: number, signal: AbortSignal | undefined): Promise<void> {
    const limit = AbortSignal.timeout(Math.ceil(Math.min(timeout, 0x7fff_ffff)));
    this.#use(await this.#attach(signal ? AbortSignal.any([limit, signal]) : limit));
  }

  /** Has act called with a session, at once or when there is one and room towards it, in the order of the calls. */
  submit<T>(waiter: Waiter<T>, act: (session: Session) => void): void {
    if (this.#gone) throw this.#gone(waiter.what);
    const session = this.#session;
    if (session && !session.channel.full && this.#waiting.size === 0) return act(session);
    if (this.#waiting.size >= MOST_WAITING) throw new OverloadedError(`${waiter.what}: too many operations wait for the node`);
    const item = { waiter: waiter as Waiter<never>, act };
    this.#waiting.add(item);
    waiter.abandon = () => this.#waiting.delete(item);
  }

  /** A session that is lost from now on is not replaced: the attachment is closed. */
  retire(): void {
    this.#retired = true;
    if (!this.#session && this.#leaving.size === 0) void this.close();
  }

  /** Ends everything at once; resolves when the connection is closed. Idempotent. */
  close(): Promise<void> {
    return (this.#closing ??= this.#close());
  }

  async #close(): Promise<void> {
    const sessions = [...this.#leaving, ...(this.#session ? [this.#session] : [])];
    this.#end((what) => new ClosedError(`${what}: the connection was closed`));
    await Promise.all(sessions.map((session) => session.close()));
  }

  async #attach(signal: AbortSignal): Promise<Session> {
    const { port, cluster, log, silence } = this.#config;
    const session = new Session(this.#duties(), cluster !== "", silence);
    const stop = (): void => { void session.close(); };
    try {
      session.channel.use(await dial(port, session.channel.intake, log, signal));
      signal.addEventListener("abort", stop);
      await session.open(cluster);
      return session;
    } catch (err) {
      if (!signal.aborted) throw err;
      const cause: unknown = signal.reason;
      if (cause instanceof Error && cause.name === "TimeoutError") throw new TimeoutError(`attach to port ${port}: timed out`, { cause });
      throw new CancelledError(`attach to port ${port}: cancelled`, { cause });
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  #duties(): Duties {
    const owner = this.#owner;
    return {
      room: (kind) => owner.room(kind),
      request: (served) => owner.request(served),
      cancelled: (served) => owner.cancelled(served),
      broadcast: (frame) => owner.broadcast(frame),
      event: (frame) => owner.event(frame),
      offered: (tunnel) => owner.offered(tunnel),
      writable: () => this.#pump(),
      leaving: (session) => {
        if (this.#session !== session) return;
        this.#session = undefined;
        this.#leaving.add(session);
        this.#config.log.info("the node is leaving", { port: this.#config.port });
      },
      ended: (session, reason) => this.#lost(session, reason),
    };
  }

  #use(session: Session): void {
    if (session.ended) return this.#lost(session, session.endError("iris")); // between the welcome and now
    this.#session = session;
    this.#owner.attached(session);
    session.channel.touch();
    this.#pump();
  }

  #pump(): void {
    for (const item of this.#waiting) {
      if (!this.#session || this.#session.channel.full) return;
      this.#waiting.delete(item);
      item.waiter.abandon = undefined;
      try {
        if (!item.waiter.settled) item.act(this.#session);
      } catch (err) {
        item.waiter.reject(err as Error);
      }
    }
  }

  #lost(session: Session, reason: IrisError): void {
    const current = this.#session === session || this.#leaving.delete(session);
    if (this.#session === session) this.#session = undefined;
    if (this.#gone || !current) return;
    this.#config.log.warn("the node was lost", { port: this.#config.port, err: reason.message });
    if (this.#retired) return void this.close();
    void this.#search(reason);
  }

  async #search(reason: Error): Promise<void> {
    const until = performance.now() + this.#config.reconnect;
    for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LAST_PAUSE)) {
      const left = until - performance.now() - pause;
      if (left < 0) return this.#giveUp(reason);
      await sleep(pause, this.#stop.signal);
      if (this.#gone) return;
      try {
        const session = await this.#attach(AbortSignal.any([this.#stop.signal, AbortSignal.timeout(Math.ceil(Math.min(left, 10_000)))]));
        if (this.#gone) return void session.close();
        this.#config.log.info("attached again", { port: this.#config.port });
        return this.#use(session);
      } catch (err) {
        if (this.#gone) return;
        if (err instanceof RefusedError && !err.temporary) return this.#giveUp(err); // relay.md 2.7
        reason = err as Error;
      }
    }
  }

  #giveUp(cause: Error): void {
    const text = `the iris node at port ${this.#config.port} was lost and given up: ${cause.message}`;
    this.#config.log.error("the node is given up", { port: this.#config.port, err: cause.message });
    this.#end((what) => new NoNodeError(`${what}: ${text}`, { cause }));
    this.#owner.dropped(new NoNodeError(text, { cause }));
  }

  #end(gone: (what: string) => IrisError): void {
    if (this.#gone) return;
    this.#gone = gone;
    this.#stop.abort();
    for (const { waiter } of this.#waiting) waiter.reject(gone(waiter.what));
    this.#waiting.clear();
  }
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
  });
}
