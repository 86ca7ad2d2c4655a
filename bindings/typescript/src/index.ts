/**
 * The TypeScript binding of the Iris messaging framework. A program attaches to the iris node on its own host: a client
 * with `connect`, a service with `register`.
 * @packageDocumentation
 */
export { connect, type Connection, type ConnectOptions, type SendOptions, type TellOptions } from "./connection.js";
export {
  register, type HandlerReply, type RegisterOptions, type Service, type ServiceHandler, type ServiceLimits,
} from "./service.js";
export type { Tunnel } from "./tunnel.js";
export type { Request } from "./request.js";
export type { TopicHandler, TopicLimits } from "./topics.js";
export type { Event, Message, Payload, Reply } from "./message.js";
export type { Headers } from "./wire/frame.js";
export type { WaitOptions } from "./waiter.js";
export type { Logger } from "./logger.js";
export {
  CancelledError, ClosedError, ClosingError, InvalidError, IrisError, LostError, NoNodeError, NoServiceError,
  OverloadedError, ProtocolError, RefusedError, RemoteError, TimeoutError, TooLargeError, type ErrorCode,
} from "./errors.js";
