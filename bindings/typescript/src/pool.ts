/** Bounds of a pool of handlers: calls at once, items that wait besides, bytes of both together. */
export interface PoolBounds {
  readonly threads: number;
  readonly queue: number;
  readonly memory: number;
}

/**
 * Pool calls a handler with items: at most so many calls at once, further items wait in their order. One item alone
 * may exceed the memory. `run` handles its own errors; an item is dealt with when what it returns has settled.
 */
export class Pool<T extends object> {
  /** Called when an item has been dealt with. */
  onRelease: () => void = () => {};
  readonly #bounds: PoolBounds;
  readonly #run: (item: T) => void | Promise<void>;
  readonly #queue = new Map<T, number>();
  #running = 0;
  #bytes = 0;
  #pumping = false;
  #idle: (() => void)[] = [];

  constructor(bounds: PoolBounds, run: (item: T) => void | Promise<void>) {
    this.#bounds = bounds;
    this.#run = run;
  }

  /** How many more items to ask for: none while half of the memory is in use. */
  get room(): number {
    if (this.#bytes * 2 >= this.#bounds.memory) return 0;
    return Math.max(0, this.#bounds.threads + this.#bounds.queue - this.#running - this.#queue.size);
  }

  /** Takes an item of so many bytes; false when there is no room for it. */
  offer(item: T, size: number): boolean {
    const held = this.#running + this.#queue.size;
    if (held >= this.#bounds.threads + this.#bounds.queue) return false;
    if (this.#bytes > 0 && this.#bytes + size > this.#bounds.memory) return false;
    this.#bytes += size;
    if (this.#running < this.#bounds.threads && this.#queue.size === 0) this.#start(item, size);
    else this.#queue.set(item, size);
    return true;
  }

  /** Takes back an item that waits; false when it does not. */
  withdraw(item: T): boolean {
    const size = this.#queue.get(item);
    if (size === undefined) return false;
    this.#queue.delete(item);
    this.#bytes -= size;
    this.onRelease();
    return true;
  }

  /** Takes back all items that wait. */
  clear(): void {
    for (const item of [...this.#queue.keys()]) this.withdraw(item);
    this.#checkIdle();
  }

  /** Resolves when nothing runs or waits. */
  idle(): Promise<void> {
    if (this.#running + this.#queue.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #start(item: T, size: number): void {
    this.#running++;
    const running = this.#run(item);
    if (running instanceof Promise) void running.finally(() => this.#finish(size));
    else this.#finish(size);
  }

  #finish(size: number): void {
    this.#running--;
    this.#bytes -= size;
    if (this.#pumping) return;
    this.#pumping = true;
    while (this.#running < this.#bounds.threads && this.#queue.size > 0) {
      const [item, bytes] = this.#queue.entries().next().value!;
      this.#queue.delete(item);
      this.#start(item, bytes);
    }
    this.#pumping = false;
    this.onRelease();
    this.#checkIdle();
  }

  #checkIdle(): void {
    if (this.#idle.length === 0 || this.#running + this.#queue.size > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}
