//! Every sentence on our pages, in every language we speak: a field per sentence, so that none can be forgotten.

use std::time::Duration;

use http::StatusCode;

use super::Trouble;
use crate::login::language::Language;
use crate::login::problem::{ProblemType, whole_seconds};

/// A title and what to do about it.
type Message = (&'static str, &'static str);

/// One language's sentences.
pub(super) struct Texts {
    pub lang: &'static str,
    pub sign_in: &'static str,
    pub username: &'static str,
    pub password: &'static str,
    pub sign_in_button: &'static str,
    pub wrong_password: &'static str,
    pub sign_in_unavailable: &'static str,
    pub bad_form: &'static str,
    pub cross_site_form: &'static str,
    /// Goes before the title when something is wrong, because a screen reader reads the title first.
    pub error_prefix: &'static str,
    pub sign_out: &'static str,
    pub sign_out_message: &'static str,
    pub sign_out_button: &'static str,
    pub back: &'static str,
    pub signed_in_as: &'static str,
    pub signed_out: &'static str,
    pub signed_out_message: &'static str,
    pub sign_in_again: &'static str,
    pub nobody: &'static str,
    pub nobody_message: &'static str,
    pub not_allowed: &'static str,
    pub not_allowed_message: &'static str,
    pub other_account: &'static str,
    pub request_id: &'static str,
    pub sessions: &'static str,
    pub sessions_message: &'static str,
    pub this_browser: &'static str,
    pub unknown_browser: &'static str,
    pub address: &'static str,
    pub last_seen: &'static str,
    pub signed_in_at: &'static str,
    pub now: &'static str,
    pub end_session: &'static str,
    pub end_others: &'static str,
    pub session_ended: &'static str,
    pub session_gone: &'static str,
    pub others_ended: &'static str,
    /// Between the form and the buttons.
    pub or: &'static str,
    pub start_over: &'static str,
    pub provider_says: &'static str,
    pub go_on: &'static str,
    pub signed_in: &'static str,
    pub signed_in_message: &'static str,
    bad_request: Message,
    forbidden: Message,
    not_found: Message,
    method: Message,
    timeout: Message,
    too_large: Message,
    wrong_host: Message,
    too_many: Message,
    internal: Message,
    bad_gateway: Message,
    unavailable: Message,
    no_sign_in: Message,
    end_unconfirmed: Message,
    no_sessions: Message,
    gateway_timeout: Message,
}

impl Texts {
    pub(super) fn of(language: Language) -> &'static Texts {
        match language {
            Language::English => &ENGLISH,
            Language::Korean => &KOREAN,
        }
    }

    /// Title and message for an error that is known better than by its status.
    pub(super) fn of_problem(&self, problem: ProblemType, status: StatusCode) -> Message {
        match problem {
            ProblemType::SignInUnavailable => self.no_sign_in,
            ProblemType::EndUnconfirmed => self.end_unconfirmed,
            ProblemType::SessionsUnavailable => self.no_sessions,
            ProblemType::Status
            | ProblemType::SignInRequired
            | ProblemType::NotAllowed
            | ProblemType::CrossSite
            | ProblemType::StoreUnavailable
            | ProblemType::ProviderUnavailable
            | ProblemType::BearerRefused => self.of_status(status),
        }
    }

    /// Title and message for an error status; the class decides for those without a text of their own.
    fn of_status(&self, status: StatusCode) -> Message {
        match status.as_u16() {
            401 | 403 => self.forbidden,
            404 | 410 => self.not_found,
            405 => self.method,
            408 => self.timeout,
            413 | 414 | 431 => self.too_large,
            421 => self.wrong_host,
            429 => self.too_many,
            502 => self.bad_gateway,
            503 => self.unavailable,
            504 => self.gateway_timeout,
            400..=499 => self.bad_request,
            _ => self.internal,
        }
    }
}

/// "Too many attempts", with how long to wait.
pub(super) fn throttled(language: Language, retry_after: Duration) -> String {
    let seconds = whole_seconds(retry_after);
    let minutes = seconds.div_ceil(60);
    match (language, seconds, minutes) {
        (Language::English, 1, _) => "Too many attempts. Try again in a second.".to_owned(),
        (Language::English, ..=90, _) => {
            format!("Too many attempts. Try again in {seconds} seconds.")
        }
        (Language::English, _, _) => {
            format!("Too many attempts. Try again in {minutes} minutes.")
        }
        (Language::Korean, ..=90, _) => {
            format!("로그인 시도가 너무 많습니다. {seconds}초 후에 다시 시도해 주세요.")
        }
        (Language::Korean, _, _) => {
            format!("로그인 시도가 너무 많습니다. {minutes}분 후에 다시 시도해 주세요.")
        }
    }
}

/// What the button of a provider says.
pub(super) fn continue_with(language: Language, provider: &str) -> String {
    match language {
        Language::English => format!("Continue with {provider}"),
        Language::Korean => format!("{provider} 계정으로 계속"),
    }
}

/// On the way to a provider's own sign-out.
pub(super) fn leaving(language: Language, provider: &str) -> String {
    match language {
        Language::English => {
            format!(
                "Your session here has ended. You are on your way to {provider} to sign out there too."
            )
        }
        Language::Korean => {
            format!("이곳의 세션은 종료되었습니다. {provider}에서도 로그아웃하기 위해 이동합니다.")
        }
    }
}

/// Title and message of a sign-in by a provider that came to nothing.
pub(super) fn trouble(
    language: Language,
    trouble: Trouble,
    provider: &str,
) -> (&'static str, String) {
    let (title, message) = match (language, trouble) {
        (Language::English, Trouble::Declined) => (
            "Not signed in",
            "PROVIDER did not sign you in. If you did not mean to cancel, start over.",
        ),
        (Language::English, Trouble::Expired) => (
            "That took too long",
            "Signing in with PROVIDER was begun too long ago. Please start over.",
        ),
        (Language::English, Trouble::NotThisBrowser) => (
            "Please start over",
            "This sign-in with PROVIDER was begun in another browser or window, or has been used already.",
        ),
        (Language::English, Trouble::Malformed) => (
            "Please start over",
            "What came back from PROVIDER is not complete. You may have opened an old link.",
        ),
        (Language::English, Trouble::Unreachable) => (
            "Signing in is not possible right now",
            "PROVIDER cannot be reached right now. Please try again in a moment.",
        ),
        (Language::English, Trouble::Unusable) => (
            "Sign-in could not be checked",
            "What PROVIDER answered cannot be trusted, so you were not signed in. If it happens again, tell whoever runs this site.",
        ),
        (Language::English, Trouble::OutOfOrder) => (
            "Signing in is not possible right now",
            "Signing in with PROVIDER is not possible at the moment, and trying again will not help. Whoever runs this site has to look after it; please tell them.",
        ),
        (Language::English, Trouble::NotAllowed) => (
            "No access",
            "Your account at PROVIDER may not be used here. Use another one, or ask whoever runs this site.",
        ),
        (Language::English, Trouble::Incomplete) => (
            "Account cannot be used",
            "Your account at PROVIDER does not say what this site needs to know. Ask whoever runs this site.",
        ),
        (Language::Korean, Trouble::Declined) => (
            "로그인하지 않았습니다",
            "PROVIDER에서 로그인이 완료되지 않았습니다. 취소하려던 것이 아니라면 처음부터 다시 시작해 주세요.",
        ),
        (Language::Korean, Trouble::Expired) => (
            "시간이 초과되었습니다",
            "PROVIDER 로그인을 시작한 지 너무 오래되었습니다. 처음부터 다시 시작해 주세요.",
        ),
        (Language::Korean, Trouble::NotThisBrowser) => (
            "다시 시작해 주세요",
            "이 PROVIDER 로그인은 다른 브라우저나 창에서 시작되었거나 이미 사용되었습니다.",
        ),
        (Language::Korean, Trouble::Malformed) => (
            "다시 시작해 주세요",
            "PROVIDER에서 받은 응답이 완전하지 않습니다. 오래된 링크를 열었을 수 있습니다.",
        ),
        (Language::Korean, Trouble::Unreachable) => (
            "지금은 로그인할 수 없습니다",
            "지금은 PROVIDER 서버에 연결할 수 없습니다. 잠시 후 다시 시도해 주세요.",
        ),
        (Language::Korean, Trouble::Unusable) => (
            "로그인을 확인할 수 없습니다",
            "PROVIDER의 응답을 신뢰할 수 없어 로그인하지 않았습니다. 문제가 계속되면 사이트 관리자에게 알려 주세요.",
        ),
        (Language::Korean, Trouble::OutOfOrder) => (
            "지금은 로그인할 수 없습니다",
            "지금은 PROVIDER 계정으로 로그인할 수 없으며, 다시 시도해도 해결되지 않습니다. 사이트 관리자가 확인해야 하니 관리자에게 알려 주세요.",
        ),
        (Language::Korean, Trouble::NotAllowed) => (
            "접근 권한이 없습니다",
            "PROVIDER 계정으로는 이 사이트를 이용할 수 없습니다. 다른 계정을 사용하거나 사이트 관리자에게 문의해 주세요.",
        ),
        (Language::Korean, Trouble::Incomplete) => (
            "이 계정을 사용할 수 없습니다",
            "PROVIDER 계정에 이 사이트에 필요한 정보가 없습니다. 사이트 관리자에게 문의해 주세요.",
        ),
    };
    (title, message.replace("PROVIDER", provider))
}

/// "Firefox on Android".
pub(super) fn on(language: Language, browser: &str, system: &str) -> String {
    match language {
        Language::English => format!("{browser} on {system}"),
        Language::Korean => format!("{browser}({system})"),
    }
}

/// "2 hours ago": the largest unit that fits, rounded down.
pub(super) fn ago(language: Language, since: Duration) -> String {
    let minutes = since.as_secs() / 60;
    let (number, english, korean) = match minutes {
        ..60 => (minutes.max(1), "minute", "분"),
        60..1440 => (minutes / 60, "hour", "시간"),
        _ => (minutes / 1440, "day", "일"),
    };
    match (language, number) {
        (Language::English, 1) => format!("1 {english} ago"),
        (Language::English, _) => format!("{number} {english}s ago"),
        (Language::Korean, _) => format!("{number}{korean} 전"),
    }
}

/// "In the last 3 minutes", rounded up.
pub(super) fn within(language: Language, since: Duration) -> String {
    let minutes = whole_seconds(since).div_ceil(60).max(1);
    match (language, minutes) {
        (Language::English, 1) => "In the last minute".to_owned(),
        (Language::English, _) => format!("In the last {minutes} minutes"),
        (Language::Korean, _) => format!("최근 {minutes}분 이내"),
    }
}

/// How many sessions the list leaves out.
pub(super) fn more_sessions(language: Language, more: usize) -> String {
    match (language, more) {
        (Language::English, 1) => "1 more session is not shown.".to_owned(),
        (Language::English, _) => format!("{more} more sessions are not shown."),
        (Language::Korean, _) => format!("표시되지 않은 세션이 {more}개 더 있습니다."),
    }
}

static ENGLISH: Texts = Texts {
    lang: "en",
    sign_in: "Sign in",
    username: "Username",
    password: "Password",
    sign_in_button: "Sign in",
    wrong_password: "The username or the password is not right. Please try again.",
    sign_in_unavailable: "Signing in is not possible right now. Please try again in a moment.",
    bad_form: "The form was incomplete. Please fill it in again.",
    cross_site_form: "The form did not come from this page. Please sign in here.",
    error_prefix: "Error: ",
    sign_out: "Sign out",
    sign_out_message: "This ends your session in this browser at once.",
    sign_out_button: "Sign out",
    back: "Back to the app",
    signed_in_as: "Signed in as",
    signed_out: "You are signed out",
    signed_out_message: "Your session has ended. You can close this page.",
    sign_in_again: "Sign in again",
    nobody: "You are not signed in",
    nobody_message: "There is no session to end in this browser.",
    not_allowed: "No access",
    not_allowed_message: "Your account may not open this page. If you need it, ask whoever runs this site.",
    other_account: "Use another account",
    request_id: "Request",
    sessions: "Your sessions",
    sessions_message: "Each browser in which you are signed in. End any that you do not know or no longer use.",
    this_browser: "This browser",
    unknown_browser: "Unknown browser",
    address: "IP address",
    last_seen: "Last seen",
    signed_in_at: "Signed in",
    now: "Now",
    end_session: "End this session",
    end_others: "End all other sessions",
    session_ended: "The session has been ended.",
    session_gone: "That session had ended already.",
    others_ended: "All other sessions have been ended.",
    or: "or",
    start_over: "Start over",
    provider_says: "It says:",
    go_on: "Continue",
    signed_in: "You are signed in",
    signed_in_message: "You are on your way back to where you wanted to go.",
    bad_request: (
        "This request was not understood",
        "Something in its address or its form is not as it must be. Check the link and try again.",
    ),
    forbidden: (
        "Refused",
        "This request is not allowed. Go back to the site and try again from there.",
    ),
    not_found: (
        "Nothing here",
        "There is no page at this address. Check the link.",
    ),
    method: (
        "Not possible here",
        "This page cannot be used in this way. Go back and try again.",
    ),
    timeout: (
        "That took too long",
        "Your request did not arrive in time. Please try again.",
    ),
    too_large: (
        "Too large",
        "Your request is larger than this site accepts.",
    ),
    wrong_host: (
        "Wrong address",
        "This site does not answer under this name. Check the address.",
    ),
    too_many: (
        "Slow down, please",
        "There were too many requests. Please wait a moment and try again.",
    ),
    internal: (
        "Something went wrong",
        "This is our mistake, not yours. Please try again in a moment.",
    ),
    bad_gateway: (
        "The app does not answer",
        "The app behind this page cannot be reached. Your sign-in is not affected; please try again in a moment.",
    ),
    unavailable: (
        "Not available right now",
        "Please try again in a moment. Your sign-in is not affected.",
    ),
    no_sign_in: (
        "You cannot sign in right now",
        "Nobody can at the moment. Please go back and try again shortly.",
    ),
    end_unconfirmed: (
        "Not confirmed yet",
        "The session may not be over everywhere yet. Please go back and try again in a moment.",
    ),
    no_sessions: (
        "Your session cannot be checked right now",
        "This page opens only when that is possible. You stay signed in; please try again in a moment.",
    ),
    gateway_timeout: (
        "The app took too long",
        "The app behind this page did not answer in time. Your sign-in is not affected; please try again in a moment.",
    ),
};

static KOREAN: Texts = Texts {
    lang: "ko",
    sign_in: "로그인",
    username: "사용자 이름",
    password: "비밀번호",
    sign_in_button: "로그인",
    wrong_password: "사용자 이름 또는 비밀번호가 올바르지 않습니다. 다시 입력해 주세요.",
    sign_in_unavailable: "지금은 로그인할 수 없습니다. 잠시 후 다시 시도해 주세요.",
    bad_form: "입력 내용이 완전하지 않습니다. 다시 입력해 주세요.",
    cross_site_form: "이 페이지에서 보낸 요청이 아닙니다. 여기에서 로그인해 주세요.",
    error_prefix: "오류: ",
    sign_out: "로그아웃",
    sign_out_message: "이 브라우저의 세션이 바로 종료됩니다.",
    sign_out_button: "로그아웃",
    back: "앱으로 돌아가기",
    signed_in_as: "로그인한 계정:",
    signed_out: "로그아웃했습니다",
    signed_out_message: "세션이 종료되었습니다. 이 페이지를 닫아도 됩니다.",
    sign_in_again: "다시 로그인",
    nobody: "로그인되어 있지 않습니다",
    nobody_message: "이 브라우저에는 종료할 세션이 없습니다.",
    not_allowed: "접근 권한이 없습니다",
    not_allowed_message: "이 계정으로는 이 페이지를 열 수 없습니다. 필요하면 사이트 관리자에게 문의해 주세요.",
    other_account: "다른 계정으로 로그인",
    request_id: "요청 번호",
    sessions: "내 세션",
    sessions_message: "로그인되어 있는 브라우저 목록입니다. 모르는 세션이나 더 이상 쓰지 않는 세션은 종료해 주세요.",
    this_browser: "이 브라우저",
    unknown_browser: "알 수 없는 브라우저",
    address: "IP 주소",
    last_seen: "마지막 사용",
    signed_in_at: "로그인",
    now: "지금",
    end_session: "이 세션 종료",
    end_others: "다른 세션 모두 종료",
    session_ended: "세션을 종료했습니다.",
    session_gone: "이미 종료된 세션입니다.",
    others_ended: "다른 세션을 모두 종료했습니다.",
    or: "또는",
    start_over: "처음부터 다시 시작",
    provider_says: "전달받은 내용:",
    go_on: "계속",
    signed_in: "로그인했습니다",
    signed_in_message: "요청하신 페이지로 이동합니다.",
    bad_request: (
        "잘못된 요청입니다",
        "주소나 입력 내용을 이해할 수 없습니다. 링크를 확인하고 다시 시도해 주세요.",
    ),
    forbidden: (
        "요청이 거부되었습니다",
        "허용되지 않는 요청입니다. 사이트로 돌아가서 다시 시도해 주세요.",
    ),
    not_found: (
        "페이지를 찾을 수 없습니다",
        "이 주소에는 페이지가 없습니다. 링크를 확인해 주세요.",
    ),
    method: (
        "지원하지 않는 요청입니다",
        "이 페이지는 이런 방식으로 사용할 수 없습니다. 이전 화면으로 돌아가서 다시 시도해 주세요.",
    ),
    timeout: (
        "시간이 초과되었습니다",
        "요청이 제시간에 도착하지 않았습니다. 다시 시도해 주세요.",
    ),
    too_large: (
        "요청이 너무 큽니다",
        "이 사이트에서 받을 수 있는 크기를 넘었습니다.",
    ),
    wrong_host: (
        "주소가 올바르지 않습니다",
        "이 이름으로는 사이트를 이용할 수 없습니다. 주소를 확인해 주세요.",
    ),
    too_many: (
        "잠시만 기다려 주세요",
        "요청이 너무 많습니다. 잠시 후 다시 시도해 주세요.",
    ),
    internal: (
        "문제가 발생했습니다",
        "서버에서 오류가 발생했습니다. 잠시 후 다시 시도해 주세요.",
    ),
    bad_gateway: (
        "앱이 응답하지 않습니다",
        "앱에 연결할 수 없습니다. 로그인 상태에는 영향이 없으니 잠시 후 다시 시도해 주세요.",
    ),
    unavailable: (
        "지금은 이용할 수 없습니다",
        "로그인 상태에는 영향이 없으니 잠시 후 다시 시도해 주세요.",
    ),
    no_sign_in: (
        "지금은 로그인할 수 없습니다",
        "일시적인 문제입니다. 이전 화면으로 돌아가서 잠시 후 다시 시도해 주세요.",
    ),
    end_unconfirmed: (
        "아직 확인되지 않았습니다",
        "세션이 모든 곳에서 종료되지 않았을 수 있습니다. 이전 화면으로 돌아가서 잠시 후 다시 시도해 주세요.",
    ),
    no_sessions: (
        "지금은 세션을 확인할 수 없습니다",
        "세션을 확인해야 열 수 있는 페이지입니다. 로그인은 그대로 유지되니 잠시 후 다시 시도해 주세요.",
    ),
    gateway_timeout: (
        "앱의 응답이 늦어지고 있습니다",
        "앱이 제시간에 응답하지 않았습니다. 로그인 상태에는 영향이 없으니 잠시 후 다시 시도해 주세요.",
    ),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_said_as_people_say_them() {
        let check = |seconds, english: &str, korean: &str| {
            let after = Duration::from_secs(seconds);
            let say = |language| throttled(language, after);
            assert!(
                say(Language::English).ends_with(english),
                "{}",
                say(Language::English)
            );
            assert!(
                say(Language::Korean).contains(korean),
                "{}",
                say(Language::Korean)
            );
        };
        check(1, "in a second.", " 1초 후");
        check(90, "in 90 seconds.", " 90초 후");
        check(91, "in 2 minutes.", " 2분 후");
        check(900, "in 15 minutes.", " 15분 후");
    }

    #[test]
    fn moments_are_said_in_the_largest_unit_that_fits() {
        let check = |seconds, english: &str, korean: &str| {
            let since = Duration::from_secs(seconds);
            assert_eq!(ago(Language::English, since), english);
            assert_eq!(ago(Language::Korean, since), korean);
        };
        check(0, "1 minute ago", "1분 전");
        check(119, "1 minute ago", "1분 전");
        check(120, "2 minutes ago", "2분 전");
        check(3599, "59 minutes ago", "59분 전");
        check(3600, "1 hour ago", "1시간 전");
        check(86_399, "23 hours ago", "23시간 전");
        check(86_400, "1 day ago", "1일 전");
        check(864_000, "10 days ago", "10일 전");
        let since = |seconds| within(Language::English, Duration::from_secs(seconds));
        assert_eq!(since(0), "In the last minute");
        assert_eq!(since(61), "In the last 2 minutes");
    }
}
