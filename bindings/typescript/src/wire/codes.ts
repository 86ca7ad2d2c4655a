/** The ops of relay.md 3.2. */
export const Op = {
  hello: 0x00, welcome: 0x01, refuse: 0x02, ping: 0x03, pong: 0x04, credit: 0x05, drain: 0x06, drained: 0x07,
  leaving: 0x08, bye: 0x09, done: 0x0a, request: 0x10, reply: 0x11, cancel: 0x12, broadcast: 0x20, publish: 0x21,
  subscribe: 0x22, unsubscribe: 0x23, event: 0x24, open: 0x30, opened: 0x31, data: 0x32, allow: 0x33, finish: 0x34,
  abort: 0x35,
} as const;

/** The codes of relay.md 7.1. */
export const Code = {
  ok: 0, timeout: 1, "no-service": 2, overloaded: 3, lost: 4, failed: 5, cancelled: 6, closing: 7, invalid: 8,
  version: 16, feature: 17, name: 18, limit: 19, "not-ready": 20,
  malformed: 32, "too-large": 33, unexpected: 34, "handshake-timeout": 35, unresponsive: 36,
} as const;

export type CodeName = keyof typeof Code;

const names = new Map<number, CodeName>(Object.entries(Code).map(([name, code]) => [code, name as CodeName]));

/** The name of a code; one that is not listed has that of the one it is treated like, relay.md 7.2. */
export function codeName(code: number): CodeName {
  return names.get(code) ?? (code < 16 ? "lost" : code < 32 ? "not-ready" : "malformed");
}

/** What a credit is for, relay.md 5.5. */
export const Kind = { request: 0, broadcast: 1, event: 2 } as const;

/** The budget that means no limit, relay.md 5.2. */
export const NO_LIMIT = 0xffff_ffff;

/** The most that may be left of credits of a kind or of a tunnel's allowance, relay.md 5.5 and 10.5. */
export const MOST = 0x7fff_ffff;

/** What a data frame costs beside its payload, relay.md 10.5. */
export const CHUNK_COST = 64;

/** The most bytes of a text, relay.md 5.6, and of the content of a frame of the opening, 4.2. */
export const TEXT = 16_384;
