/** What went wrong, in words, and what a person can do about it. */

const NEXT_BY_CODE = {
  unreachable:
    "Check that the server is running and that you are connected, then try again: the same request is never paid twice.",
  unauthorised: "Enter an API key: “gaia keys create” on the server makes one.",
  forbidden: "Ask whoever runs the server for a key that may do this.",
  no_capable_provider: "Open the plan to see why each provider was passed over, and change what it names.",
  content_filtered: "Put it in other words: the provider will refuse these again.",
  budget_exceeded: "Make fewer or smaller pictures, pick a cheaper model, or have the budget raised.",
  outcome_unknown:
    "Look in the gallery in a minute before you make it again: it may have been made and charged.",
  idempotency_conflict: "Make it again: it is then sent as a new request.",
  too_large: "Use a smaller picture.",
  invalid_image: "Use a PNG, JPEG or WebP picture of at most 4096 × 4096 pixels.",
  not_found: "Reload the page: it may have been removed since.",
};

const NEXT_BY_ACTION = {
  retry: "Try again in a moment.",
  use_fallback: "Try again, or let another provider make it.",
  fix_request: "Change what is named here, then try again.",
  change_prompt: "Put it in other words, then try again.",
  check_settings: "Whoever runs the server should look at its settings: “gaia doctor” says what is wrong.",
  check_providers: "Open the plan to see why each provider was passed over.",
  check_plugins: "Whoever runs the server should run “gaia doctor”.",
  check_ledger: "Whoever runs the server should run “gaia doctor”: its book cannot be written.",
  check_storage: "Whoever runs the server should check that its disk has space.",
  look_up_operation: "Look in the gallery in a minute before you make it again.",
  raise_budget: "Make fewer or smaller pictures, or have the budget raised.",
  use_another_key: "Make it again: it is then sent as a new request.",
};

/**
 * A refusal or a failure.
 *
 * `message` says what happened, `next` what to do, `details` which field is wrong.
 */
export class ProblemError extends Error {
  constructor(status, body) {
    super(body.error ?? `The server answered ${status}.`);
    this.name = "ProblemError";
    this.status = status;
    this.body = body;
    this.code = body.error_code ?? (status === 401 ? "unauthorised" : "");
    this.details = body.details ?? [];
    this.retryAfter = body.retry_after ?? null;
    this.operationId = body.operation_id ?? null;
    this.billed = body.billed;
  }

  /** What a person can do next, as one sentence. */
  get next() {
    if (this.retryAfter) return `Try again in ${inWords(this.retryAfter)}.`;
    return (
      NEXT_BY_CODE[this.code] ??
      NEXT_BY_ACTION[this.body.suggested_action] ??
      "Tell whoever runs the server; its log says more."
    );
  }

  /** Whether the first request may still be served: it is then asked for by its name. */
  get isOpen() {
    return this.status === 0 || this.code === "operation_in_progress";
  }

  /** Whether it was paid, as one sentence; empty where that is plain. */
  get money() {
    if (this.billed === true) return "It was charged.";
    if (this.billed === null) return "Whether it was charged is not known yet.";
    return "";
  }

  /**
   * Whether asking the same again can help.
   *
   * What may have been made and charged is looked up, never simply made again.
   */
  get isWorthRepeating() {
    if (this.billed === null || this.body.suggested_action === "look_up_operation") return false;
    return this.status === 0 || [408, 409, 429].includes(this.status) || this.status >= 500;
  }
}

/** Make the problem of an answer that never came. */
export function unreachable() {
  return new ProblemError(0, {
    error: "The server cannot be reached, or hung up before it answered.",
    error_code: "unreachable",
    suggested_action: "retry",
  });
}

function inWords(seconds) {
  const whole = Math.max(1, Math.ceil(seconds));
  if (whole < 90) return whole === 1 ? "a second" : `${whole} seconds`;
  return `${Math.ceil(whole / 60)} minutes`;
}
