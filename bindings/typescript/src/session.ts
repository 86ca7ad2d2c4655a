import { Channel } from "./channel.js";
import { Credits } from "./credits.js";
import { ClosedError, LostError, OverloadedError, ProtocolError, RefusedError, outcomeError, type IrisError } from "./errors.js";
import { checkSizes, type Reply } from "./message.js";
import { Request } from "./request.js";
import { Tunnels } from "./tunnels.js";
import type { Tunnel } from "./tunnel.js";
import type { Waiter } from "./waiter.js";
import {
  appendCode, appendHello, appendMessage, appendNumbers, appendReply, appendRequest, appendTopic,
} from "./wire/append.js";
import { Code, Kind, Op, codeName } from "./wire/codes.js";
import { defaultLimits, type BroadcastFrame, type EventFrame, type Frame, type Id, type Limits, type WelcomeFrame } from "./wire/frame.js";
import { cutText, encodeHeaders } from "./wire/output.js";

/** What a session passes on, and asks. Nothing of it is called before the welcome. */
export interface Duties {
  /** How many messages of a kind there is room for, see Kind. */
  room(kind: number): number;
  /** The service is given a request. */
  request(served: Served): void;
  /** The requester of a request has given it up, or nobody can get the reply any more. */
  cancelled(served: Served): void;
  broadcast(frame: BroadcastFrame): void;
  event(frame: EventFrame): void;
  /** The service is offered a tunnel. */
  offered(tunnel: Tunnel): void;
  /** The node is leaving: nothing new should be asked here. */
  leaving(session: Session): void;
  /** There is room for what waits to be sent. */
  writable(): void;
  /** The session is over, not by close. Called once. */
  ended(session: Session, reason: IrisError): void;
}

/** A request that runs on this side, to be replied to once. */
export interface Served {
  readonly request: Request;
  readonly limits: Limits;
  /** Sends the reply, unless the request has ended; relay.md 5.4. */
  reply(code: number, text: string, headers: Uint8Array, payload: Uint8Array): void;
}

/** The outcome of a done, relay.md 8.3. */
export type Outcome = (err: IrisError | undefined) => void;

/** How long nothing may come before the node is asked whether it lives, and again before it is given up, in ms. 6.2 */
export const SILENCE = 15_000;

// Tokens of the pings of this side.
const PULSE = 0;
const BARRIER = 1;

/** Session is one connection with the node, from hello to bye: relay.md 6.1. */
export class Session {
  /** Of the welcome; the defaults before. */
  limits: Limits = defaultLimits;
  readonly channel: Channel;
  readonly tunnels: Tunnels;
  readonly #duties: Duties;
  readonly #credits: Credits;
  readonly #service: boolean;
  readonly #calls = new Map<Id, Waiter<Reply>>();
  readonly #outcomes = new Map<Id, { what: string; settle: Outcome }>();
  readonly #serving = new Map<Id, Served>();
  readonly #silence: number;
  #opening: ((err?: IrisError) => void) | undefined;
  #nextId = 1;
  #leaving = false;
  #draining: (() => void) | undefined;
  #settled: (() => void) | undefined;
  #ending: ((what: string) => IrisError) | undefined;
  #pulse: NodeJS.Timeout | undefined;

  constructor(duties: Duties, service: boolean, silence = SILENCE) {
    this.#duties = duties;
    this.#service = service;
    this.#silence = silence;
    this.#credits = new Credits((kind) => this.#room(kind));
    this.channel = new Channel({
      frame: (frame) => this.#frame(frame),
      broken: (err) => this.#end(err.bye, err.message, (what) => new LostError(`${what}: ${err.message}`, { cause: err }), err),
      over: (reason) => this.#over(reason),
      writing: () => this.#writing(),
      room: () => { this.tunnels.pump(); duties.writable(); },
    });
    this.tunnels = new Tunnels(this);
  }

  /** Says hello and waits for the welcome, relay.md 2. The error is a RefusedError, ProtocolError or LostError. */
  open(cluster: string): Promise<void> {
    appendHello(this.channel.out, { min: 1, max: 1, cluster, options: {}, features: [] });
    this.channel.touch();
    return new Promise((resolve, reject) => {
      this.#opening = (err) => (err ? reject(err) : resolve());
    });
  }

  /** Whether the session is over. */
  get ended(): boolean { return this.#ending !== undefined; }

  /** The error of an operation that the end of the session ends. */
  endError(what: string): IrisError { return this.#ending!(what); }

  newId(): number { return this.#nextId++; }

  /** Sends a request, relay.md 5.1. */
  ask(waiter: Waiter<Reply>, cluster: string, headers: Uint8Array, payload: Uint8Array): void {
    checkSizes(waiter.what, this.limits, cluster, headers, payload);
    if (this.#calls.size >= this.limits.requests) {
      throw new OverloadedError(`${waiter.what}: ${this.limits.requests} requests are unanswered`);
    }
    const id = this.newId();
    this.#calls.set(id, waiter);
    waiter.abandon = (signalled) => {
      if (!signalled || this.ended) return; // the node knows the budget
      appendNumbers(this.channel.out, Op.cancel, id);
      this.channel.touch();
    };
    appendRequest(this.channel.out, id, cluster, waiter.budget(), headers, payload);
    this.channel.touch();
  }

  /** Sends a broadcast or an event. settle gets the outcome; without it none is wanted, relay.md 8.3. */
  tell(
    what: string, op: typeof Op.broadcast | typeof Op.publish, name: string, headers: Uint8Array, payload: Uint8Array,
    settle?: Outcome,
  ): void {
    checkSizes(what, this.limits, name, headers, payload);
    appendMessage(this.channel.out, op, settle ? this.#expect(what, settle) : 0, name, headers, payload);
    this.channel.touch();
  }

  /** Sends a subscribe or an unsubscribe, relay.md 9.3, 9.4. */
  topic(what: string, op: typeof Op.subscribe | typeof Op.unsubscribe, topic: string, settle: Outcome): void {
    checkSizes(what, this.limits, topic, encodeHeaders(undefined), Buffer.alloc(0));
    if (op === Op.subscribe && !this.#opening) this.#credits.append(this.channel.out); // relay.md 5.5: in front of it
    appendTopic(this.channel.out, op, this.#expect(what, settle), topic);
    this.channel.touch();
  }

  /**
   * Sends what there is to send, credit included, and resolves when the node has read it: it answers a ping behind it.
   * Not later than after a second, and when the session is over.
   */
  settle(): Promise<void> {
    if (this.ended) return Promise.resolve();
    this.#writing();
    appendNumbers(this.channel.out, Op.ping, BARRIER);
    this.channel.touch();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, 1_000);
      this.#settled = () => { clearTimeout(timer); resolve(); };
    });
  }

  /** Leaves the cluster, relay.md 6.3; resolves when the node has said so, or the session is over. */
  drain(): Promise<void> {
    if (this.ended) return Promise.resolve();
    appendNumbers(this.channel.out, Op.drain);
    this.channel.touch();
    return new Promise((resolve) => { this.#draining = resolve; });
  }

  /** Ends the session with a bye of code 0; what it has in flight ends as closed. */
  close(): Promise<void> {
    this.#end(Code.ok, "", (what) => new ClosedError(`${what}: the connection was closed`));
    return this.channel.closed();
  }

  #expect(what: string, settle: Outcome): Id {
    const id = this.newId();
    this.#outcomes.set(id, { what, settle });
    return id;
  }

  #room(kind: number): number {
    const serves = this.#service && this.#draining === undefined && !this.#leaving;
    return kind === Kind.event || serves ? this.#duties.room(kind) : 0;
  }

  #frame(f: Frame): void {
    if (this.#opening) return this.#answer(this.#opening, f);
    switch (f.op) {
      case Op.event: this.#credits.use(Kind.event); this.#duties.event(f); return this.channel.touch();
      case Op.reply: return this.#reply(f.id, f.code, f.text, f);
      case Op.request: this.#credits.use(Kind.request); return this.#serve(f.id, new Request(f));
      case Op.data: case Op.allow: case Op.opened: case Op.finish: case Op.abort: return this.tunnels.frame(f);
      case Op.broadcast: this.#credits.use(Kind.broadcast); this.#duties.broadcast(f); return this.channel.touch();
      case Op.done: return this.#done(f.id, f.code, f.text);
      case Op.cancel: return this.#cancelled(f.id);
      case Op.ping: appendNumbers(this.channel.out, Op.pong, f.token); return this.channel.touch();
      case Op.pong: if (f.token === BARRIER) this.#settled?.(); return;
      case Op.open: if (!this.#service) break; return this.#duties.offered(this.tunnels.offer(f));
      case Op.leaving: this.#leaving = true; this.#duties.leaving(this); return this.#leave();
      case Op.drained: if (!this.#draining) break; return this.#draining();
      case Op.bye: return this.#bye(f.code, f.text);
    }
    throw new ProtocolError(`the op ${f.op} is not allowed here`, Code.unexpected); // relay.md 6.1
  }

  #answer(opened: (err?: IrisError) => void, f: Frame): void {
    if (f.op === Op.refuse) {
      const text = `the node refused: ${f.text || codeName(f.code)}`;
      this.#opening = undefined;
      opened(new RefusedError(codeName(f.code), text));
      return this.#fold((what) => new LostError(`${what}: ${text}`));
    }
    if (f.op !== Op.welcome) throw new ProtocolError(`the op ${f.op} before a welcome`, Code.unexpected);
    checkWelcome(f);
    this.limits = f.limits;
    this.channel.limit = f.limits.frame;
    this.#opening = undefined;
    this.#beat();
    opened();
  }

  #reply(id: Id, code: number, text: string, reply: Reply): void {
    const waiter = this.#calls.get(id);
    if (waiter === undefined) return; // relay.md 5.4: it has ended meanwhile
    this.#calls.delete(id);
    if (code === Code.ok) waiter.resolve({ payload: reply.payload, headers: reply.headers });
    else waiter.reject(outcomeError(waiter.what, code, text));
    if (this.#leaving) this.#leave();
  }

  #serve(id: Id, request: Request): void {
    if (this.#serving.has(id)) throw new ProtocolError("a request with the id of one that runs", Code.unexpected);
    const served: Served = {
      request,
      limits: this.limits,
      reply: (code, text, headers, payload) => {
        if (this.#serving.get(id) !== served) return;
        this.#serving.delete(id);
        appendReply(this.channel.out, id, code, cutText(text), headers, payload);
        this.channel.touch();
      },
    };
    this.#serving.set(id, served);
    this.#duties.request(served);
  }

  #cancelled(id: Id): void {
    const served = this.#serving.get(id);
    if (served === undefined) return;
    this.#serving.delete(id);
    this.#duties.cancelled(served);
    served.request.end(new Error("the requester gave up"));
    this.channel.touch();
  }

  #done(id: Id, code: number, text: string): void {
    const expected = this.#outcomes.get(id);
    if (expected === undefined) return;
    this.#outcomes.delete(id);
    expected.settle(code === Code.ok ? undefined : outcomeError(expected.what, code, text));
    if (this.#leaving) this.#leave();
  }

  // relay.md 6.5: a client finishes what it has, closes, and attaches again.
  #leave(): void {
    if (this.ended || this.#calls.size + this.#outcomes.size + this.#serving.size + this.tunnels.size > 0) return;
    this.#end(Code.ok, "", (what) => new LostError(`${what}: the node is leaving`));
  }

  #writing(): void {
    this.tunnels.append();
    if (!this.#opening) this.#credits.append(this.channel.out);
    if (this.#leaving) this.#leave();
  }

  #bye(code: number, text: string): void {
    const reason = code === Code.ok ? "the node said goodbye" : `the node said ${codeName(code)}${text && `: ${text}`}`;
    this.#fold((what) => new LostError(`${what}: ${reason}`));
  }

  #over(reason: string): void {
    this.#fold((what) => new LostError(`${what}: ${reason}`));
  }

  #beat(): void {
    let seen = -1;
    let asked = false;
    this.#pulse = setInterval(() => {
      if (this.channel.received !== seen) {
        seen = this.channel.received;
        asked = false;
      } else if (!asked) {
        asked = true;
        appendNumbers(this.channel.out, Op.ping, PULSE);
        this.channel.touch();
      } else {
        const reason = "the node is unresponsive";
        this.#end(Code.unresponsive, reason, (what) => new LostError(`${what}: ${reason}`));
      }
    }, this.#silence);
    this.#pulse.unref();
  }

  // Ends the session with a bye of this side.
  #end(code: number, text: string, ending: (what: string) => IrisError, cause?: IrisError): void {
    if (this.ended) return;
    appendCode(this.channel.out, Op.bye, [], code, cutText(text));
    this.#fold(ending, cause);
  }

  // Everything that goes on ends, each with its error; the channel is closed.
  #fold(ending: (what: string) => IrisError, cause?: IrisError): void {
    if (this.ended) return;
    this.#ending = ending;
    clearInterval(this.#pulse);
    this.channel.end();
    const opening = this.#opening;
    this.#opening = undefined;
    for (const waiter of take(this.#calls)) waiter.reject(ending(waiter.what));
    for (const { what, settle } of take(this.#outcomes)) settle(ending(what));
    for (const served of take(this.#serving)) {
      this.#duties.cancelled(served);
      served.request.end(ending("request"));
    }
    this.tunnels.end(ending);
    this.#draining?.();
    this.#settled?.();
    const reason = ending("iris");
    if (opening) opening(cause ?? reason);
    else if (!(reason instanceof ClosedError)) this.#duties.ended(this, cause ?? reason);
  }
}

function take<T>(table: Map<Id, T>): T[] {
  const all = [...table.values()];
  table.clear();
  return all;
}

// relay.md 2.2, 4.1
function checkWelcome(f: WelcomeFrame): void {
  if (f.version !== 1) throw new ProtocolError(`the node chose the version ${f.version}`);
  const l = f.limits;
  if (l.frame < l.payload + l.headers + Math.max(l.name, 16_384) + 64 || l.frame < l.chunk + 64) {
    throw new ProtocolError("the limit of a frame is below that of its parts");
  }
}
