import { OverloadedError, ProtocolError, type IrisError } from "./errors.js";
import { checkSizes } from "./message.js";
import type { Session } from "./session.js";
import { Tunnel } from "./tunnel.js";
import type { Waiter } from "./waiter.js";
import { appendOpen } from "./wire/append.js";
import { Code, MOST } from "./wire/codes.js";
import type { Id, OpenFrame, TunnelFrame } from "./wire/frame.js";

const NODE_BIT = 1n << 63n;

/** Bytes that the other side of a tunnel may have on the way, relay.md 10.5: at least two chunks. */
const WINDOW = 1 << 20;

/** Tunnels are those of one session, relay.md 10. */
export class Tunnels {
  readonly session: Session;
  readonly #open = new Map<Id, Tunnel>();
  readonly #dirty = new Set<Tunnel>();
  readonly #waiting = new Set<Tunnel>();

  constructor(session: Session) { this.session = session; }

  /** Tunnels that are asked for, offered or open. */
  get size(): number { return this.#open.size; }

  get window(): number { return Math.min(MOST, Math.max(WINDOW, 2 * (this.session.limits.chunk + 64))); }

  /** Asks for a tunnel, relay.md 10.1; the waiter gets it when it is accepted. */
  ask(waiter: Waiter<Tunnel>, cluster: string, headers: Uint8Array): void {
    const { limits, channel } = this.session;
    checkSizes(waiter.what, limits, cluster, headers, new Uint8Array(0));
    if (this.size >= limits.tunnels) throw new OverloadedError(`${waiter.what}: ${limits.tunnels} tunnels are open`);
    const id = this.session.newId();
    this.#open.set(id, new Tunnel(this, id, cluster, waiter));
    appendOpen(channel.out, id, cluster, waiter.budget(), this.window, headers);
    channel.touch();
  }

  /** A tunnel that the node offers. */
  offer(f: OpenFrame): Tunnel {
    if ((BigInt(f.id) & NODE_BIT) === 0n || this.#open.has(f.id)) throw new ProtocolError("an open with an id that is not free", Code.unexpected);
    if (f.window > MOST) throw new ProtocolError("a window beyond 2^31-1", Code.unexpected); // relay.md 10.5
    const tunnel = new Tunnel(this, f.id, f.cluster, f);
    this.#open.set(f.id, tunnel);
    return tunnel;
  }

  /** Gives a frame to its tunnel; one for a tunnel that is not there has crossed its end, relay.md 10.8. */
  frame(f: TunnelFrame): void { this.#open.get(f.id)?.frame(f); }

  /** The tunnel has something to allow when the session writes. */
  owes(tunnel: Tunnel): void {
    this.#dirty.add(tunnel);
    this.session.channel.touch();
  }

  /** The tunnel wants to send when there is room. */
  wait(tunnel: Tunnel): void { this.#waiting.add(tunnel); }

  /** Appends what is to be allowed. */
  append(): void {
    if (this.#dirty.size === 0) return;
    for (const tunnel of this.#dirty) tunnel.appendAllow();
    this.#dirty.clear();
  }

  /** There is room: the tunnels that wait for it go on. */
  pump(): void {
    for (const tunnel of [...this.#waiting]) {
      this.#waiting.delete(tunnel);
      tunnel.pump();
    }
  }

  /** The tunnel has ended. */
  remove(tunnel: Tunnel): void {
    if (this.#open.get(tunnel.id) === tunnel) this.#open.delete(tunnel.id);
    this.#dirty.delete(tunnel);
    this.#waiting.delete(tunnel);
    this.session.channel.touch(); // a node that leaves may have waited for it
  }

  /** The session is over. */
  end(ending: (what: string) => IrisError): void {
    for (const tunnel of [...this.#open.values()]) tunnel.fail(ending);
  }
}
