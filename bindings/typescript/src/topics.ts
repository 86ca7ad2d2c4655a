import type { Attachment } from "./attachment.js";
import { Tally, callHandler } from "./calls.js";
import { CancelledError, InvalidError, LostError, OverloadedError } from "./errors.js";
import type { Logger } from "./logger.js";
import { checkName, type Event } from "./message.js";
import { Pool } from "./pool.js";
import type { Session } from "./session.js";
import { waitFor, type WaitOptions, type Waiter } from "./waiter.js";
import { Op } from "./wire/codes.js";
import type { EventFrame } from "./wire/frame.js";

/** What gets the events of a topic. An event is dealt with when the promise that it returns, if any, has settled. */
export type TopicHandler = (event: Event) => void | Promise<void>;

/** Bounds of a subscription. Publishers never wait: what exceeds them is dropped, by the node, or here with a warning. */
export interface TopicLimits {
  /** Handlers at once. Absent: 1, so that the events of one publisher are handled in their order. */
  threads?: number | undefined;
  /** Events that wait besides. Absent: 16,384. */
  queue?: number | undefined;
  /** Bytes of events that wait or are handled; one alone may exceed it. Absent: 64 MiB. */
  memory?: number | undefined;
}

interface Topic {
  readonly name: string;
  readonly pool: Pool<Event>;
  readonly drops: Tally;
  waiter: Waiter<void>; // of the subscribe
  on: Session | undefined; // where the subscribe was sent
  confirmed: boolean;
  ended: boolean;
  room: number; // of the pool, as counted in the total
}

/** Topics are the subscriptions of a connection, relay.md 9. */
export class Topics {
  readonly #attachment: Attachment;
  readonly #log: Logger;
  readonly #topics = new Map<string, Topic>();
  readonly #changed = new Set<Topic>(); // whose room may have changed
  readonly #ending = new Map<string, number>(); // unsubscribes on their way: events are still of the old subscription
  #room = 0;

  constructor(attachment: Attachment, log: Logger) {
    this.#attachment = attachment;
    this.#log = log;
  }

  /** Events that there is room for. */
  room(): number {
    for (const topic of this.#changed) {
      const room = topic.ended ? 0 : topic.pool.room;
      this.#room += room - topic.room;
      topic.room = room;
    }
    this.#changed.clear();
    return this.#room;
  }

  event(event: EventFrame): void {
    const topic = this.#topics.get(event.topic);
    if (topic === undefined || (this.#ending.size > 0 && this.#ending.has(event.topic))) return;
    this.#changed.add(topic);
    if (!topic.pool.offer(event, event.payload.length + event.topic.length)) topic.drops.add();
  }

  /** Subscribes again on a new session, relay.md 6.6. */
  attached(session: Session): void {
    this.#ending.clear();
    for (const topic of this.#topics.values()) {
      if (!topic.confirmed) continue;
      topic.on = session;
      session.topic(`subscribe to "${topic.name}" again`, Op.subscribe, topic.name, (err) => {
        if (!err || err instanceof LostError || topic.ended) return;
        this.#log.error("a subscription was lost", { topic: topic.name, err: err.message });
        this.#remove(topic);
      });
    }
  }

  subscribe(name: string, handler: TopicHandler, options: (TopicLimits & WaitOptions) | undefined): Promise<void> {
    return waitFor<void>(`subscribe to "${name}"`, options, (waiter) => {
      checkName(waiter.what, name);
      if (this.#topics.has(name)) throw new InvalidError(`${waiter.what}: there is a subscription already`);
      const topic = this.#make(name, handler, options ?? {}, waiter);
      this.#topics.set(name, topic);
      try {
        this.#attachment.submit(waiter, (session) => this.#send(topic, session));
      } catch (err) {
        this.#remove(topic);
        throw err;
      }
      const abandon = waiter.abandon;
      waiter.abandon = (signalled) => { abandon?.(signalled); this.#withdraw(topic); };
    });
  }

  unsubscribe(name: string, options: WaitOptions | undefined): Promise<void> {
    return waitFor<void>(`unsubscribe from "${name}"`, options, (waiter) => {
      const topic = this.#topics.get(name);
      if (!topic) throw new InvalidError(`${waiter.what}: there is no subscription`);
      topic.waiter.reject(new CancelledError(`${topic.waiter.what}: unsubscribed meanwhile`));
      this.#withdraw(topic, () => waiter.resolve());
    });
  }

  /** No further call of a handler starts. */
  end(): void {
    for (const topic of [...this.#topics.values()]) this.#remove(topic);
  }

  #make(name: string, handler: TopicHandler, limits: TopicLimits, waiter: Waiter<void>): Topic {
    const log = this.#log;
    const failures = new Tally(log, "a handler of events failed", { topic: name });
    const bounds = { threads: limits.threads ?? 1, queue: limits.queue ?? 16_384, memory: limits.memory ?? 64 << 20 };
    const pool = new Pool<Event>(bounds, (event) => callHandler(() => handler(event), () => {}, (err) => failures.add(err)));
    const drops = new Tally(log, "events were dropped", { topic: name });
    const topic: Topic = { name, pool, drops, waiter, on: undefined, confirmed: false, ended: false, room: 0 };
    pool.onRelease = () => {
      this.#changed.add(topic);
      this.#attachment.session?.channel.touch();
    };
    return topic;
  }

  #send(topic: Topic, session: Session): void {
    const waiter = topic.waiter;
    try {
      this.#changed.add(topic);
      if (this.#topics.size > session.limits.topics) throw new OverloadedError(`${waiter.what}: ${session.limits.topics} subscriptions`);
      session.topic(waiter.what, Op.subscribe, topic.name, (err) => {
        if (topic.ended) return;
        if (err) {
          this.#remove(topic);
          return waiter.reject(err);
        }
        topic.confirmed = true;
        waiter.resolve();
      });
    } catch (err) {
      this.#remove(topic);
      throw err;
    }
    topic.on = session;
    waiter.abandon = () => this.#withdraw(topic);
  }

  // Ends a subscription on both sides; done is called when no event of it can come any more.
  #withdraw(topic: Topic, done: () => void = () => {}): void {
    if (topic.ended) return done();
    this.#remove(topic);
    const session = this.#attachment.session;
    if (!session || topic.on !== session) return done();
    const name = topic.name;
    this.#ending.set(name, (this.#ending.get(name) ?? 0) + 1);
    session.topic(`unsubscribe from "${name}"`, Op.unsubscribe, name, () => {
      const left = (this.#ending.get(name) ?? 1) - 1;
      if (left > 0) this.#ending.set(name, left);
      else this.#ending.delete(name);
      done();
    });
  }

  #remove(topic: Topic): void {
    topic.ended = true;
    if (this.#topics.get(topic.name) === topic) this.#topics.delete(topic.name);
    this.#changed.add(topic);
    topic.pool.clear();
  }
}
