{{- define "innkeeper.egressDns" -}}
- ports:
    {{- range .Values.networkPolicy.egress.dnsPorts }}
    - port: {{ int . }}
      protocol: UDP
    - port: {{ int . }}
      protocol: TCP
    {{- end }}
{{- end }}

{{- define "innkeeper.egressRedis" -}}
{{- if .Values.valkey.enabled -}}
- ports:
    - port: 6379
  to:
    - podSelector:
        matchLabels:
          {{- include "innkeeper.selectorLabels" (dict "root" . "component" "valkey") | nindent 10 }}
{{- else -}}
{{- include "innkeeper.egressTo" .Values.networkPolicy.egress.redis -}}
{{- end -}}
{{- end }}

{{- define "innkeeper.egressApiServer" -}}
{{- include "innkeeper.egressTo" .Values.networkPolicy.egress.apiServer -}}
{{- end }}

{{/* to, ports; no `to` is anywhere */}}
{{- define "innkeeper.egressTo" -}}
- ports:
    {{- range .ports }}
    - port: {{ int . }}
    {{- end }}
  {{- with .to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* Where the collector of traces.endpoint listens. */}}
{{- define "innkeeper.collectorPort" -}}
{{- $url := urlParse .Values.traces.endpoint -}}
{{- $port := regexFind ":[0-9]+$" $url.host | trimPrefix ":" -}}
{{- $port | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end }}
