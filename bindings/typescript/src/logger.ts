/** Where the binding tells what an operator may want to know. Nothing per message above debug, and never payloads. */
export interface Logger {
  debug(message: string, fields?: Record<string, unknown>): void;
  info(message: string, fields?: Record<string, unknown>): void;
  warn(message: string, fields?: Record<string, unknown>): void;
  error(message: string, fields?: Record<string, unknown>): void;
}

const quiet = (): void => {};

/** Warnings and errors go to the console. */
export const consoleLogger: Logger = {
  debug: quiet,
  info: quiet,
  warn: (message, fields = {}) => console.warn(`iris: ${message}`, fields),
  error: (message, fields = {}) => console.error(`iris: ${message}`, fields),
};
