import type { Op } from "./codes.js";

/**
 * An id or token of 64 bits: a number up to Number.MAX_SAFE_INTEGER, a bigint above, so that each has one form only
 * and can be the key of a Map.
 */
export type Id = number | bigint;

/** Headers as they travel with a message: at most 64, relay.md 5.3. Without a prototype when they come from the wire. */
export type Headers = Readonly<Record<string, string>>;

/** Limits of a node, relay.md 4.1: bytes, but for requests, topics and tunnels, which are counts. */
export interface Limits {
  readonly frame: number;
  readonly payload: number;
  readonly headers: number;
  readonly name: number;
  readonly requests: number;
  readonly topics: number;
  readonly tunnels: number;
  readonly chunk: number;
}

/** What relay.md 4.1 says of a limit that is missing or zero. */
export const defaultLimits: Limits = {
  frame: 1_114_112, payload: 1_048_576, headers: 16_384, name: 255,
  requests: 4_096, topics: 65_536, tunnels: 16_384, chunk: 65_536,
};

type O = typeof Op;

export interface HelloFrame {
  op: O["hello"]; min: number; max: number; cluster: string; options: Headers; features: readonly string[];
}
export interface WelcomeFrame { op: O["welcome"]; version: number; limits: Limits; info: Headers; features: readonly string[] }
export interface RefuseFrame { op: O["refuse"]; code: number; text: string }
export interface TokenFrame { op: O["ping"] | O["pong"]; token: Id }
export interface CreditFrame { op: O["credit"]; kind: number; n: number }
export interface BareFrame { op: O["drain"] | O["drained"] | O["leaving"] }
export interface ByeFrame { op: O["bye"]; code: number; text: string }
export interface DoneFrame { op: O["done"]; id: Id; code: number; text: string }
export interface RequestFrame { op: O["request"]; id: Id; cluster: string; budget: number; headers: Headers; payload: Buffer }
export interface ReplyFrame { op: O["reply"]; id: Id; code: number; text: string; headers: Headers; payload: Buffer }
export interface CancelFrame { op: O["cancel"]; id: Id }
export interface BroadcastFrame { op: O["broadcast"]; id: Id; cluster: string; headers: Headers; payload: Buffer }
export interface PublishFrame { op: O["publish"]; id: Id; topic: string; headers: Headers; payload: Buffer }
export interface TopicFrame { op: O["subscribe"] | O["unsubscribe"]; id: Id; topic: string }
export interface EventFrame { op: O["event"]; topic: string; headers: Headers; payload: Buffer }
export interface OpenFrame { op: O["open"]; id: Id; cluster: string; budget: number; window: number; headers: Headers }
export interface OpenedFrame { op: O["opened"]; id: Id; window: number; headers: Headers }
export interface DataFrame { op: O["data"]; id: Id; last: number; payload: Buffer }
export interface AllowFrame { op: O["allow"]; id: Id; n: number }
export interface FinishFrame { op: O["finish"]; id: Id }
export interface AbortFrame { op: O["abort"]; id: Id; code: number; text: string }

/** Any frame of relay.md 3.2, decoded. */
export type Frame =
  | HelloFrame | WelcomeFrame | RefuseFrame | TokenFrame | CreditFrame | BareFrame | ByeFrame | DoneFrame
  | RequestFrame | ReplyFrame | CancelFrame | BroadcastFrame | PublishFrame | TopicFrame | EventFrame
  | OpenFrame | OpenedFrame | DataFrame | AllowFrame | FinishFrame | AbortFrame;

/** The frames of one tunnel once it was asked for. */
export type TunnelFrame = OpenedFrame | DataFrame | AllowFrame | FinishFrame | AbortFrame;
