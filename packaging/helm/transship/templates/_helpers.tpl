{{/* Name of all objects: the release's name, with the chart's name if the release's name does not contain it. */}}
{{- define "transship.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pod. They must not change after the installation. */}}
{{- define "transship.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "transship.labels" -}}
{{ include "transship.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Name of the secret. Fails without a token of the status port, because no pod could start. */}}
{{- define "transship.secret" -}}
{{- $existing := .Values.secret.existing -}}
{{- $data := .Values.secret.data | default dict -}}
{{- if and $existing $data -}}
{{- fail "secret.existing and secret.data are both set: set one of them" -}}
{{- else if not (or $existing (index $data "status-token")) -}}
{{- fail "the status port needs a token: set secret.data.status-token to a random text (openssl rand -hex 32), or secret.existing to the name of a secret that has the key status-token" -}}
{{- end -}}
{{- $existing | default (include "transship.fullname" .) -}}
{{- end -}}

{{- define "transship.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "transship.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}
