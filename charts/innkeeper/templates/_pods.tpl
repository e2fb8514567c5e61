{{/*
What all pods have in common: Pod Security "restricted", and no variables of Services (a Service called "innkeeper"
would set INNKEEPER_PORT).
root, user
*/}}
{{- define "innkeeper.podSecurity" -}}
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  {{- with .user }}
  runAsUser: {{ int . }}
  runAsGroup: {{ int . }}
  fsGroup: {{ int . }}
  {{- end }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{- define "innkeeper.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  privileged: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  capabilities:
    drop: [ALL]
{{- end }}

{{/* Where pods go. values (of the role) */}}
{{- define "innkeeper.placement" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* root, component */}}
{{- define "innkeeper.topologySpread" -}}
{{- $spread := .root.Values.topologySpread -}}
{{- if $spread.enabled }}
topologySpreadConstraints:
  {{- range $spread.topologyKeys }}
  - maxSkew: 1
    topologyKey: {{ . | quote }}
    whenUnsatisfiable: {{ $spread.whenUnsatisfiable }}
    labelSelector:
      matchLabels:
        {{- include "innkeeper.selectorLabels" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
  {{- end }}
{{- end }}
{{- end }}

{{/* A setting that holds a secret comes from a file, never from the environment. root, role */}}
{{- define "innkeeper.secretSettings" -}}
- name: INNKEEPER_REDIS_URL_FILE
  value: /run/innkeeper/secrets/redis-url
{{- if ne .role "gateway" }}
- name: INNKEEPER_ENCRYPTION_KEY_FILE
  value: /run/innkeeper/secrets/encryption-key
{{- end }}
{{- if ne .role "executor" }}
- name: INNKEEPER_WEBHOOK_KEY_FILE
  value: /run/innkeeper/secrets/webhook-key
{{- end }}
{{- if and (eq .role "gateway") .root.Values.adminToken.existingSecret }}
- name: INNKEEPER_ADMIN_TOKEN_FILE
  value: /run/innkeeper/secrets/admin-token
{{- end }}
{{- end }}

{{/* root, role */}}
{{- define "innkeeper.secretVolume" -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ include "innkeeper.redisSecret" .root | quote }}
          items:
            - key: {{ include "innkeeper.redisSecretKey" .root | quote }}
              path: redis-url
      {{- if ne .role "gateway" }}
      - secret:
          name: {{ include "innkeeper.encryptionSecret" .root | quote }}
          items:
            - key: {{ include "innkeeper.encryptionSecretKey" .root | quote }}
              path: encryption-key
      {{- end }}
      {{- if ne .role "executor" }}
      - secret:
          name: {{ include "innkeeper.webhookSecret" .root | quote }}
          items:
            - key: {{ include "innkeeper.webhookSecretKey" .root | quote }}
              path: webhook-key
      {{- end }}
      {{- if and (eq .role "gateway") .root.Values.adminToken.existingSecret }}
      - secret:
          name: {{ .root.Values.adminToken.existingSecret | quote }}
          items:
            - key: {{ .root.Values.adminToken.key | quote }}
              path: admin-token
      {{- end }}
{{- end }}

{{- define "innkeeper.logSettings" -}}
- name: INNKEEPER_LOG_LEVEL
  value: {{ .Values.log.level }}
- name: INNKEEPER_LOG_FORMAT
  value: {{ .Values.log.format }}
{{- end }}

{{/* What an operator looks after, and the Lease that says which one is active. */}}
{{- define "innkeeper.scopeSettings" -}}
{{- with .Values.watch.namespaces -}}
- name: INNKEEPER_WATCH_NAMESPACES
  value: {{ join "," . | quote }}
{{ end -}}
- name: INNKEEPER_LEASE_NAMESPACE
  value: {{ .Release.Namespace | quote }}
- name: INNKEEPER_LEASE_NAME
  value: {{ include "innkeeper.fullname" . }}-operator
{{- end }}

{{/* root, role */}}
{{- define "innkeeper.commonSettings" -}}
{{- $values := .root.Values -}}
{{ include "innkeeper.logSettings" .root }}
- name: INNKEEPER_HOST
  value: {{ $values.listenHost | quote }}
- name: INNKEEPER_PORT
  value: {{ include "innkeeper.port" .role | quote }}
- name: INNKEEPER_GRACE_S
  value: {{ (index $values .role).graceSeconds | quote }}
{{ include "innkeeper.secretSettings" . }}
{{- end }}

{{- define "innkeeper.retentionSettings" -}}
- name: INNKEEPER_RETENTION_EVENTS
  value: {{ .events | quote }}
- name: INNKEEPER_RETENTION_RUNS
  value: {{ .runs | quote }}
- name: INNKEEPER_RETENTION_DEAD_LETTERS
  value: {{ .deadLetters | quote }}
{{- end }}

{{/* How large things may be, and how they are kept: the same for gateways and executors. */}}
{{- define "innkeeper.boundSettings" -}}
- name: INNKEEPER_MAX_EVENT_BYTES
  value: {{ int .root.Values.limits.eventBytes | quote }}
- name: INNKEEPER_MAX_REQUEST_BYTES
  value: {{ int .root.Values.limits.requestBytes | quote }}
- name: INNKEEPER_MAX_STEPS
  value: {{ int .root.Values.limits.steps | quote }}
- name: INNKEEPER_COMPRESS_OVER_BYTES
  value: {{ int .root.Values.compressOverBytes | quote }}
{{- end }}

{{/* root */}}
{{- define "innkeeper.traceSettings" -}}
{{- with .root.Values.traces -}}
{{- if .endpoint }}
- name: INNKEEPER_OTLP_ENDPOINT
  value: {{ .endpoint | quote }}
- name: INNKEEPER_TRACE_RATIO
  value: {{ .ratio | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- define "innkeeper.settings.gateway" -}}
{{ include "innkeeper.commonSettings" . }}
{{ include "innkeeper.boundSettings" . }}
{{- include "innkeeper.traceSettings" . }}
- name: INNKEEPER_METRICS_PORT
  value: {{ include "innkeeper.metricsPort" .role | quote }}
- name: INNKEEPER_MANAGED
  value: "true"
- name: INNKEEPER_AUTO_REGISTER
  value: {{ .root.Values.autoRegister }}
- name: INNKEEPER_TOKEN_REVIEW
  value: {{ .root.Values.gateway.tokenReview | quote }}
{{- with .root.Values.gateway.trustedProxies }}
- name: INNKEEPER_TRUSTED_PROXIES
  value: {{ join "," . | quote }}
{{- end }}
{{- with include "innkeeper.webhooksUrl" .root }}
- name: INNKEEPER_WEBHOOKS_URL
  value: {{ . | quote }}
{{- end }}
{{- if .root.Values.webhookIntents.enabled }}
- name: INNKEEPER_WEBHOOK_INTENTS
  value: "true"
{{- end }}
{{- with .root.Values.webhookRedirects }}
- name: INNKEEPER_WEBHOOK_REDIRECTS
  value: {{ join "," . | quote }}
{{- end }}
- name: INNKEEPER_EVENTS_PER_S
  value: {{ int .root.Values.gateway.eventsPerSecond | quote }}
- name: INNKEEPER_REQUESTS_PER_S
  value: {{ int .root.Values.gateway.requestsPerSecond | quote }}
- name: INNKEEPER_REFUSALS_PER_S
  value: {{ int .root.Values.gateway.refusalsPerSecond | quote }}
- name: INNKEEPER_WEBHOOK_WORKERS
  value: {{ int .root.Values.gateway.webhookWorkers | quote }}
- name: INNKEEPER_LEASE_S
  value: {{ .root.Values.leaseSeconds | quote }}
{{ include "innkeeper.retentionSettings" .root.Values.retention }}
{{- end }}

{{- define "innkeeper.settings.executor" -}}
{{- $values := .root.Values -}}
{{ include "innkeeper.commonSettings" . }}
{{ include "innkeeper.boundSettings" . }}
{{- include "innkeeper.traceSettings" . }}
- name: INNKEEPER_MANAGED
  value: "true"
- name: INNKEEPER_LEASE_S
  value: {{ $values.leaseSeconds | quote }}
{{ include "innkeeper.retentionSettings" $values.retention }}
- name: INNKEEPER_BEAT_S
  value: {{ $values.executor.beatSeconds | quote }}
- name: INNKEEPER_CAPACITY
  value: {{ int $values.executor.capacity | quote }}
{{- with $values.executor.retryBackoffSeconds }}
- name: INNKEEPER_RETRY_BACKOFF_S
  value: {{ join "," . | quote }}
{{- end }}
- name: INNKEEPER_RETRY_JITTER_S
  value: {{ $values.executor.retryJitterSeconds | quote }}
{{- with $values.egress.allow }}
- name: INNKEEPER_EGRESS_ALLOW
  value: {{ join "," . | quote }}
{{- end }}
{{- with $values.egress.apps }}
- name: INNKEEPER_APPS_ALLOW
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}

{{- define "innkeeper.settings.operator" -}}
{{- $values := .root.Values -}}
{{ include "innkeeper.commonSettings" . }}
- name: INNKEEPER_BASE_URL
  value: {{ include "innkeeper.baseUrl" .root | quote }}
{{- with include "innkeeper.webhooksUrl" .root }}
- name: INNKEEPER_WEBHOOKS_URL
  value: {{ . | quote }}
{{- end }}
- name: INNKEEPER_CLUSTER_DOMAIN
  value: {{ $values.clusterDomain | quote }}
{{ include "innkeeper.scopeSettings" .root }}
{{- with $values.watch.environments }}
{{- $pairs := list }}
{{- range $namespace, $environment := . }}
{{- $pairs = append $pairs (printf "%s=%s" $namespace $environment) }}
{{- end }}
- name: INNKEEPER_ENVIRONMENTS
  value: {{ join "," $pairs | quote }}
{{- end }}
{{- with $values.watch.policies }}
- name: INNKEEPER_POLICIES
  value: {{ toJson . | quote }}
{{- end }}
- name: INNKEEPER_SECRET_MODE
  value: {{ $values.secrets.mode }}
- name: INNKEEPER_KEYS_GENERATE
  value: {{ and $values.keys.generate (eq $values.secrets.mode "Labelled") | quote }}
- name: INNKEEPER_AUTO_REGISTER
  value: {{ $values.autoRegister }}
{{- with $values.defaultAccount }}
- name: INNKEEPER_DEFAULT_ACCOUNT
  value: {{ . | quote }}
{{- end }}
- name: INNKEEPER_STATUS_COUNTERS
  value: {{ $values.operator.statusCounters | quote }}
{{- with $values.egress.allow }}
- name: INNKEEPER_EGRESS_ALLOW
  value: {{ join "," . | quote }}
{{- end }}
{{- with $values.egress.apps }}
- name: INNKEEPER_APPS_ALLOW
  value: {{ join "," . | quote }}
{{- end }}
{{- end }}

{{/* Where a role listens in its pod. */}}
{{- define "innkeeper.port" -}}
{{- get (dict "gateway" "8288" "executor" "8289" "operator" "8290") . -}}
{{- end }}

{{/* Where a role answers /metrics in its pod: the gateway on a port that is not for everybody, the others with probes. */}}
{{- define "innkeeper.metricsPort" -}}
{{- ternary "9090" (include "innkeeper.port" .) (eq . "gateway") -}}
{{- end }}

{{/* Whether a role's pods hold a token of their ServiceAccount: "true" or "". root, role */}}
{{- define "innkeeper.hasToken" -}}
{{- if or (eq .role "operator") (and (eq .role "gateway") .root.Values.gateway.tokenReview) -}}true{{- end -}}
{{- end }}
